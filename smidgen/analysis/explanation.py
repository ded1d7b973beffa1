"""A model explained on a data set in one pass: what it missed and why, its errors, its inside, one page about all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from smidgen.analysis.class_activation import class_activation, class_activation_picture
from smidgen.analysis.count_pictures import CountComparison
from smidgen.analysis.effective_receptive_field import ReceptiveField, mean_receptive_field, receptive_field_picture
from smidgen.analysis.explanation_page import Findings, ShownImage, explanation_page
from smidgen.analysis.judged import Judged, judge_twice
from smidgen.analysis.loss_stages import LossRules
from smidgen.analysis.lost_objects_gallery import gallery_picture
from smidgen.analysis.measurements import DRAW_OF_IMAGE, MEASUREMENTS, DrawImage, Measurement, missing_pictures
from smidgen.analysis.observation import Observation, observe, with_model_labels
from smidgen.analysis.observed_detections import observed_results
from smidgen.analysis.pattern_embedding import why_no_embedding
from smidgen.analysis.picture_readings import IMAGE_PICTURES
from smidgen.analysis.query_origins import OriginCounts
from smidgen.analysis.traced_losses import TracedLosses, trace_losses
from smidgen.checkpoints.atomic_write import write_atomically
from smidgen.data import DetectionDataset, evaluation_loader
from smidgen.evaluation import Protocol, load_protocol
from smidgen.evaluation.detect_and_score import ids_in_dataset, settings_of_model
from smidgen.evaluation.model_state import evaluating
from smidgen.structures import ImageBatch, Preprocessing


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was written and found.

    page, tables, pictures: files. totals: kind of measurement -> counts over all images, where the model has such a
    thing. judged: the detections under a protocol. receptive_fields: by level, where they were asked for. missing:
    kind of picture -> why there is none.
    """

    page: Path
    tables: Path
    pictures: tuple[Path, ...]
    totals: Mapping[str, Any]
    judged: Judged
    receptive_fields: Mapping[str, ReceptiveField]
    missing: dict[str, str]

    @property
    def losses(self) -> TracedLosses:
        """Where objects were lost."""
        losses: TracedLosses = self.totals["loss_of_objects"]
        return losses

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
        return measured(self.totals, self.judged, self.receptive_fields)


@dataclass(slots=True)
class _Found:
    measurements: dict[str, Measurement]
    totals: dict[str, Any] = field(default_factory=dict)
    receptive_fields: dict[str, ReceptiveField] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    shown: list[ShownImage] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    image_ids: set[int | str] = field(default_factory=set)


def explain(
    model: nn.Module,
    dataset: DetectionDataset,
    out: Path,
    *,
    images: int = 6,
    batch_size: int = 2,
    receptive_field: int = 0,
    protocol: str | Path | Protocol = "coco",
    rules: LossRules | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Explanation:
    """Run the model, where it is, over every image and write explanation.html, tables.json, objects.csv and the
    pictures to `out`.

    images: how many of the first ones are drawn. receptive_field: over how many of the first ones the effective
    receptive field is measured; a gradient per image and level, so 0 = not at all. protocol: that judges the
    detections. rules: when an object counts as found. progress: called with the number of images done and of all.
    Losses and pictures leave out objects of classes that the model does not know; under the protocol they count as
    missed, as `evaluate` has it. Raises ValueError where there is nothing in common, or where the model is neither of
    the DETR family nor a dense detector.
    """
    protocol, rules = load_protocol(protocol), LossRules() if rules is None else rules
    preprocessing: Preprocessing = model.config.preprocessing  # type: ignore[assignment, union-attr]
    loader = evaluation_loader(dataset, preprocessing=preprocessing, batch_size=batch_size)
    names = {record.image_id: record.file.name for record in dataset.records}
    found = _Found(_measurements(model, rules))
    measured_on: list[ImageBatch] = []
    with evaluating(model):
        for batch, targets in loader:
            with torch.inference_mode():
                observation = observe(model, batch, with_model_labels(targets, model, dataset))
                _count(model, observation, dataset, found)
                _draw(model, observation, found, names, out, images)
            measured_on += _first(batch, receptive_field - sum(map(len, measured_on)))
            if progress is not None:
                progress(len(found.image_ids), len(dataset))
        if not found.image_ids:
            raise ValueError(
                f"expected at least one readable image to explain the model on, got none in {dataset.path}"
            )
        found.receptive_fields = _receptive_fields(model, measured_on, preprocessing.short_side)
    judged = judge_twice(dataset.coco_ground_truth(), found.results, protocol, _settings(model, dataset, found))
    return _written(model, dataset, out, found, judged)


def measured(
    totals: Mapping[str, Any], judged: Judged, receptive_fields: Mapping[str, ReceptiveField]
) -> dict[str, Any]:
    """Plain values by kind of measurement, None where there is none."""
    values = {kind: totals[kind].to_json() if kind in totals else None for kind in MEASUREMENTS}
    fields = {name: one.to_json() for name, one in receptive_fields.items()}
    return {**values, "errors": judged.to_json(), "receptive_field": fields or None}


def _measurements(model: nn.Module, rules: LossRules) -> dict[str, Measurement]:
    names: tuple[str, ...] = model.classes.names  # type: ignore[union-attr, assignment]
    losses = replace(MEASUREMENTS["loss_of_objects"], count=partial(trace_losses, rules=rules, class_names=names))
    return {**MEASUREMENTS, "loss_of_objects": losses}


def _count(model: nn.Module, observation: Observation, dataset: DetectionDataset, found: _Found) -> None:
    classes: Any = model.classes
    found.missing = missing_pictures(model, observation)
    found.image_ids.update(target.image_id for target in observation.targets)
    found.results += observed_results(observation, classes, ids_in_dataset(classes, dataset.classes))
    for kind, measurement in found.measurements.items():
        if kind not in found.missing:
            counted = measurement.count(observation)
            found.totals[kind] = found.totals[kind] + counted if kind in found.totals else counted


def _settings(model: nn.Module, dataset: DetectionDataset, found: _Found) -> dict[str, Any]:
    """Of the evaluation, as `evaluate` gives them, and the classes whose objects are left out."""
    shared = ids_in_dataset(model.classes, dataset.classes).values()  # type: ignore[arg-type]
    ids = zip(dataset.classes.ids, dataset.classes.names, strict=True)
    left_out = [name for identity, name in ids if identity not in shared]
    return {**settings_of_model(model, dataset, found.image_ids), "classes_not_in_model": left_out}


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


def _written(model: nn.Module, dataset: DetectionDataset, out: Path, found: _Found, judged: Judged) -> Explanation:
    class_names = tuple(model.classes.names)  # type: ignore[union-attr, arg-type]
    losses: TracedLosses = found.totals["loss_of_objects"]
    charts = _charts(found, out, class_names)
    if losses.gallery.crops:
        charts["lost_objects"] = gallery_picture(losses.gallery).save(out / "lost_objects.png")
    errors = {kind: picture.save(out / f"{kind}.png") for kind, picture in judged.errors.pictures().items()}
    losses.lost.fates.write_csv(out / "objects.csv", class_names)
    tables = _write_text(out / "tables.json", json.dumps(_tables(found, judged), indent=1) + "\n")
    findings = Findings(
        model_name=str(model.name),
        config=model.config,
        class_names=class_names,
        split=dataset.split,
        images=len(found.image_ids),
        judged=judged,
        totals=found.totals,
        receptive_fields=found.receptive_fields,
        missing=found.missing,
    )
    text = explanation_page(findings, charts=charts, errors=errors, shown=found.shown)
    page = _write_text(out / "explanation.html", text)
    of_images = (file for image in found.shown for file in image.files.values())
    pictures = (*of_images, *charts.values(), *errors.values())
    return Explanation(page, tables, pictures, found.totals, judged, found.receptive_fields, found.missing)


def _charts(found: _Found, out: Path, class_names: Sequence[str]) -> dict[str, Path]:
    """Written charts by kind; adds to what is missing."""
    if "pattern_embedding" in found.totals and (reason := why_no_embedding(found.totals["pattern_embedding"])):
        found.missing["pattern_embedding"] = reason
    charts = {
        kind: found.measurements[kind].draw(total, class_names).save(out / f"{kind}.png")
        for kind, total in found.totals.items()
        if kind not in found.missing
    }
    if found.receptive_fields:
        charts["receptive_field"] = receptive_field_picture(found.receptive_fields).save(out / "receptive_field.png")
    else:
        found.missing["receptive_field"] = "it was not asked for (--receptive-field 10)"
    return charts


def _tables(found: _Found, judged: Judged) -> dict[str, Any]:
    return {
        **measured(found.totals, judged, found.receptive_fields),
        "missing": found.missing,
        "images": [{"file": image.name, "image_id": image.image_id, **image.data} for image in found.shown],
    }


def _write_text(path: Path, text: str) -> Path:
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8") and None)
    return path
