"""A model explained on a data set: pictures of the first images, tables and charts over all, one page about both."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from smidgen.analysis.cascade_pictures import (
    computed_cells_picture,
    computed_shares_chart,
    count_computed,
    query_heat_picture,
    why_no_computed_cells,
    why_no_query_heat,
)
from smidgen.analysis.class_activation import class_activation, class_activation_picture, why_no_class_activation
from smidgen.analysis.count_pictures import CountComparison, compare_counts, counting_chart
from smidgen.analysis.cross_gate_pictures import cross_gate_picture, why_no_cross_gate
from smidgen.analysis.detection_counts import count_detections, detection_count_chart
from smidgen.analysis.effective_receptive_field import ReceptiveField, mean_receptive_field, receptive_field_picture
from smidgen.analysis.explanation_page import CHARTS, IMAGE_PICTURES, ShownImage, explanation_page
from smidgen.analysis.finest_level_pictures import finest_level_picture, why_no_finest_level
from smidgen.analysis.observation import Observation, observe, with_model_labels
from smidgen.analysis.panels import Picture
from smidgen.analysis.pattern_embedding import embedding_picture, pattern_vectors, why_no_embedding
from smidgen.analysis.pattern_usage import count_pattern_usage, pattern_usage_picture, why_no_patterns
from smidgen.analysis.quality_assignment import count_assignments, quality_assignment_chart, why_no_quality
from smidgen.analysis.query_activation import activation_chart, count_activations
from smidgen.analysis.query_origins import (
    OriginCounts,
    count_origins,
    query_level_chart,
    query_start_picture,
    why_no_origins,
)
from smidgen.analysis.salience_pictures import refined_tokens_picture, salience_picture
from smidgen.analysis.score_by_size import score_by_size_chart, scores_by_size
from smidgen.checkpoints.atomic_write import write_atomically
from smidgen.data import DetectionDataset, evaluation_loader
from smidgen.evaluation.model_state import evaluating
from smidgen.structures import ImageBatch, Preprocessing, evidence_of
from smidgen.tokens.object_counting import ObjectCount
from smidgen.tokens.salience_filtering import SalienceMaps

DrawImage = Callable[[Observation, int], Picture]

DRAW_OF_IMAGE: dict[str, DrawImage] = {
    "salience": salience_picture,
    "refined_tokens": refined_tokens_picture,
    "query_starts": query_start_picture,
    "cross_gate": cross_gate_picture,
    "query_heat": query_heat_picture,
    "computed_cells": computed_cells_picture,
    "finest_level": finest_level_picture,
}


@dataclass(frozen=True, slots=True)
class Measurement:
    """What is counted over all images.

    missing: why there is none of this model (None = there is). count: one batch; counts of batches add up and have
    `to_json`. draw: the sum, with the names of the model's classes.
    """

    missing: Callable[[Observation], str | None]
    count: Callable[[Observation], Any]
    draw: Callable[[Any, Sequence[str]], Picture]


def _why_no_count(observation: Observation) -> str | None:
    counted = evidence_of(observation.output.evidence, ObjectCount) is not None
    return None if counted else "it does not count objects"


def _why_no_queries(observation: Observation) -> str | None:
    return None if observation.dense is None else "it is a dense detector: its cells answer, not a decoder's queries"


def _why_no_query_origins(observation: Observation) -> str | None:
    return _why_no_queries(observation) or why_no_origins(observation)


def _nothing_missing(observation: Observation) -> str | None:
    return None


MEASUREMENTS: dict[str, Measurement] = {
    "query_levels": Measurement(_why_no_query_origins, count_origins, lambda total, _: query_level_chart(total)),
    "query_activation": Measurement(_why_no_queries, count_activations, lambda total, _: activation_chart(total)),
    "quality_assignment": Measurement(
        why_no_quality, count_assignments, lambda total, _: quality_assignment_chart(total)
    ),
    "pattern_usage": Measurement(why_no_patterns, count_pattern_usage, pattern_usage_picture),
    "pattern_embedding": Measurement(why_no_patterns, pattern_vectors, embedding_picture),
    "counting": Measurement(_why_no_count, compare_counts, lambda total, _: counting_chart(total)),
    "computed_shares": Measurement(
        why_no_computed_cells, count_computed, lambda total, _: computed_shares_chart(total)
    ),
    "score_by_size": Measurement(_nothing_missing, scores_by_size, lambda total, _: score_by_size_chart(total)),
    "detection_counts": Measurement(_nothing_missing, count_detections, lambda total, _: detection_count_chart(total)),
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was written and found.

    page, tables, pictures: files. totals: kind of measurement -> counts over all images, where the model has such a
    thing. receptive_fields: by level, where they were asked for. missing: kind of picture -> why there is none.
    """

    page: Path
    tables: Path
    pictures: tuple[Path, ...]
    totals: Mapping[str, Any]
    receptive_fields: Mapping[str, ReceptiveField]
    missing: dict[str, str]

    @property
    def origins(self) -> OriginCounts | None:
        """Levels of the queries."""
        return self.totals.get("query_levels")

    @property
    def counting(self) -> CountComparison | None:
        """Counted and true objects."""
        return self.totals.get("counting")

    def measured(self) -> dict[str, Any]:
        """Plain values by kind of measurement, None where there is none."""
        return measured(self.totals, self.receptive_fields)


@dataclass(slots=True)
class _Found:
    totals: dict[str, Any] = field(default_factory=dict)
    receptive_fields: dict[str, ReceptiveField] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    shown: list[ShownImage] = field(default_factory=list)
    images: int = 0
    objects: int = 0


def explain(
    model: nn.Module,
    dataset: DetectionDataset,
    out: Path,
    *,
    images: int = 6,
    batch_size: int = 2,
    receptive_field: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Explanation:
    """Run the model, where it is, over every image and write explanation.html, tables.json and the pictures to `out`.

    images: how many of the first ones are drawn. receptive_field: over how many of the first ones the effective
    receptive field is measured; a gradient per image and level, so 0 = not at all. progress: called with the number of
    images done and of all. Objects of classes that the model does not know are left out. Raises ValueError where there
    is nothing in common, or where the model is neither of the DETR family nor a dense detector.
    """
    preprocessing: Preprocessing = model.config.preprocessing  # type: ignore[assignment, union-attr]
    loader = evaluation_loader(dataset, preprocessing=preprocessing, batch_size=batch_size)
    names = {record.image_id: record.file.name for record in dataset.records}
    found = _Found()
    measured_on: list[ImageBatch] = []
    with evaluating(model):
        for batch, targets in loader:
            with torch.inference_mode():
                observation = observe(model, batch, with_model_labels(targets, model, dataset))
                _count(model, observation, found)
                _draw(model, observation, found, names, out, images)
            measured_on += _first(batch, receptive_field - sum(map(len, measured_on)))
            if progress is not None:
                progress(found.images, len(dataset))
        if not found.images:
            raise ValueError(
                f"expected at least one readable image to explain the model on, got none in {dataset.path}"
            )
        found.receptive_fields = _receptive_fields(model, measured_on, preprocessing.short_side)
    return _written(model, dataset, out, found)


def measured(totals: Mapping[str, Any], receptive_fields: Mapping[str, ReceptiveField]) -> dict[str, Any]:
    """Plain values by kind of measurement, None where there is none."""
    values = {kind: totals[kind].to_json() if kind in totals else None for kind in MEASUREMENTS}
    fields = {name: one.to_json() for name, one in receptive_fields.items()}
    return {**values, "receptive_field": fields or None}


def missing_pictures(model: nn.Module, observation: Observation) -> dict[str, str]:
    """Kind of picture -> what the model lacks for it; kinds that can be drawn are not in it."""
    reasons = {kind: measurement.missing(observation) for kind, measurement in MEASUREMENTS.items()}
    reasons["query_starts"] = reasons["query_levels"]
    reasons["class_activation"] = why_no_class_activation(model)
    reasons["cross_gate"] = why_no_cross_gate(observation)
    reasons["query_heat"] = why_no_query_heat(observation)
    reasons["computed_cells"] = why_no_computed_cells(observation)
    reasons["finest_level"] = why_no_finest_level(observation)
    if evidence_of(observation.output.evidence, SalienceMaps) is None:
        reasons |= dict.fromkeys(("salience", "refined_tokens"), "it does not filter tokens by salience")
    return {kind: reason for kind, reason in reasons.items() if reason is not None}


def _count(model: nn.Module, observation: Observation, found: _Found) -> None:
    found.missing = missing_pictures(model, observation)
    found.images += len(observation)
    found.objects += sum(len(target) for target in observation.targets)
    for kind, measurement in MEASUREMENTS.items():
        if kind not in found.missing:
            counted = measurement.count(observation)
            found.totals[kind] = found.totals[kind] + counted if kind in found.totals else counted


def _draw(
    model: nn.Module, observation: Observation, found: _Found, names: dict[Any, str], out: Path, images: int
) -> None:
    shown = range(min(len(observation), images - len(found.shown)))
    drawers = _drawers(model, observation, found.missing) if shown else {}
    for index in shown:
        target = observation.targets[index]
        name = names[target.image_id]
        files, data = {}, {}
        for kind, draw in drawers.items():
            picture = draw(observation, index)
            path = out / "images" / f"{len(found.shown) + 1:03d}_{Path(name).stem}_{kind}.png"
            files[kind], data[kind] = picture.save(path), picture.data
        found.shown.append(ShownImage(name, target.image_id, len(target), files, data))


def _drawers(model: nn.Module, observation: Observation, missing: Mapping[str, str]) -> dict[str, DrawImage]:
    """In the order of the page."""
    drawers = dict(DRAW_OF_IMAGE)
    if "class_activation" not in missing:
        activation = class_activation(model, observation.images)
        drawers["class_activation"] = lambda seen, index: class_activation_picture(seen, index, activation)
    return {kind: drawers[kind] for kind in IMAGE_PICTURES if kind not in missing}


def _first(batch: ImageBatch, number: int) -> list[ImageBatch]:
    """The first `number` images as batches of one: gradients need memory."""
    return [
        ImageBatch(batch.pixels[index : index + 1], batch.padding[index : index + 1], (batch.sizes[index],))
        for index in range(min(len(batch), number))
    ]


def _receptive_fields(model: nn.Module, images: Sequence[ImageBatch], side_px: int) -> dict[str, ReceptiveField]:
    if not images:
        return {}
    detector: Any = model
    levels = len(detector.neck.levels) if hasattr(detector.neck, "levels") else detector.config.num_levels
    return {f"level {level}": mean_receptive_field(model, images, side_px, level) for level in range(levels)}


def _written(model: nn.Module, dataset: DetectionDataset, out: Path, found: _Found) -> Explanation:
    class_names = tuple(model.classes.names)  # type: ignore[union-attr, arg-type]
    charts = _charts(found, out, class_names)
    tables = _write_text(out / "tables.json", json.dumps(_tables(found), indent=1) + "\n")
    text = explanation_page(
        model_name=str(model.name),
        class_names=class_names,
        split=dataset.split,
        images=found.images,
        objects=found.objects,
        shown=found.shown,
        charts=charts,
        missing=found.missing,
        totals=found.totals,
        receptive_fields=found.receptive_fields,
    )
    page = _write_text(out / "explanation.html", text)
    pictures = (*(file for image in found.shown for file in image.files.values()), *charts.values())
    return Explanation(page, tables, pictures, found.totals, found.receptive_fields, found.missing)


def _charts(found: _Found, out: Path, class_names: Sequence[str]) -> dict[str, Path]:
    """Written charts by kind; adds to what is missing."""
    if "pattern_embedding" in found.totals and (reason := why_no_embedding(found.totals["pattern_embedding"])):
        found.missing["pattern_embedding"] = reason
    charts = {
        kind: MEASUREMENTS[kind].draw(total, class_names).save(out / f"{kind}.png")
        for kind, total in found.totals.items()
        if kind not in found.missing
    }
    if found.receptive_fields:
        charts["receptive_field"] = receptive_field_picture(found.receptive_fields).save(out / "receptive_field.png")
    else:
        found.missing["receptive_field"] = "it was not asked for (--receptive-field 10)"
    assert set(charts) <= set(CHARTS)
    return charts


def _tables(found: _Found) -> dict[str, Any]:
    return {
        **measured(found.totals, found.receptive_fields),
        "missing": found.missing,
        "images": [{"file": image.name, "image_id": image.image_id, **image.data} for image in found.shown],
    }


def _write_text(path: Path, text: str) -> Path:
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8") and None)
    return path
