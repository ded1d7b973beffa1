"""A model explained on a data set: pictures of the first images, tables and charts over all, one page about both."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from smidgen.analysis.count_pictures import CountComparison, compare_counts, counting_chart
from smidgen.analysis.explanation_page import CHARTS, IMAGE_PICTURES, ShownImage, explanation_page
from smidgen.analysis.observation import Observation, observe, with_model_labels
from smidgen.analysis.panels import Picture
from smidgen.analysis.query_origins import (
    OriginCounts,
    count_origins,
    query_level_chart,
    query_start_picture,
    why_no_origins,
)
from smidgen.analysis.salience_pictures import refined_tokens_picture, salience_picture
from smidgen.checkpoints.atomic_write import write_atomically
from smidgen.data import DetectionDataset, evaluation_loader
from smidgen.evaluation.model_state import evaluating
from smidgen.structures import Preprocessing, evidence_of
from smidgen.tokens.object_counting import ObjectCount
from smidgen.tokens.salience_filtering import SalienceMaps

DRAW_OF_IMAGE: dict[str, Callable[[Observation, int], Picture]] = {
    "salience": salience_picture,
    "refined_tokens": refined_tokens_picture,
    "query_starts": query_start_picture,
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was written and found.

    page, tables, pictures: files. origins, counting: over all images (None where the model has no such thing).
    missing: kind of picture -> why there is none of this model.
    """

    page: Path
    tables: Path
    pictures: tuple[Path, ...]
    origins: OriginCounts | None
    counting: CountComparison | None
    missing: dict[str, str]


@dataclass(slots=True)
class _Found:
    origins: OriginCounts | None = None
    counting: CountComparison | None = None
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
    progress: Callable[[int, int], None] | None = None,
) -> Explanation:
    """Run the model, where it is, over every image and write explanation.html, tables.json and the pictures to `out`.

    images: how many of the first ones are drawn. progress: called with the number of images done and of all. Objects of
    classes that the model does not know are left out. Raises ValueError where there is nothing in common, or where the
    model is not of the DETR family.
    """
    preprocessing: Preprocessing = model.config.preprocessing  # type: ignore[assignment, union-attr]
    loader = evaluation_loader(dataset, preprocessing=preprocessing, batch_size=batch_size)
    names = {record.image_id: record.file.name for record in dataset.records}
    found = _Found()
    with evaluating(model), torch.inference_mode():
        for batch, targets in loader:
            observation = observe(model, batch, with_model_labels(targets, model, dataset))
            _count(observation, found)
            _draw(observation, found, names, out, images)
            if progress is not None:
                progress(found.images, len(dataset))
    if not found.images:
        raise ValueError(f"expected at least one readable image to explain the model on, got none in {dataset.path}")
    charts = _charts(found, out)
    tables = _write_text(out / "tables.json", json.dumps(_tables(found), indent=1) + "\n")
    text = explanation_page(
        model_name=str(model.name),
        split=dataset.split,
        images=found.images,
        objects=found.objects,
        shown=found.shown,
        charts=charts,
        missing=found.missing,
        origins=found.origins,
        counting=found.counting,
    )
    page = _write_text(out / "explanation.html", text)
    pictures = (*(file for image in found.shown for file in image.files.values()), *charts.values())
    return Explanation(page, tables, pictures, found.origins, found.counting, found.missing)


def missing_pictures(observation: Observation) -> dict[str, str]:
    """Kind of picture -> what the model lacks for it; kinds that can be drawn are not in it."""
    missing: dict[str, str] = {}
    evidence = observation.output.evidence
    if evidence_of(evidence, SalienceMaps) is None:
        missing |= dict.fromkeys(("salience", "refined_tokens"), "it does not filter tokens by salience")
    if (reason := why_no_origins(observation)) is not None:
        missing |= dict.fromkeys(("query_starts", "query_levels"), reason)
    if evidence_of(evidence, ObjectCount) is None:
        missing["counting"] = "it does not count objects"
    return missing


def _count(observation: Observation, found: _Found) -> None:
    found.missing = missing_pictures(observation)
    found.images += len(observation)
    found.objects += sum(len(target) for target in observation.targets)
    if "query_levels" not in found.missing:
        origins = count_origins(observation)
        found.origins = origins if found.origins is None else found.origins + origins
    if "counting" not in found.missing:
        counting = compare_counts(observation)
        found.counting = counting if found.counting is None else found.counting + counting


def _draw(observation: Observation, found: _Found, names: dict[Any, str], out: Path, images: int) -> None:
    for index in range(min(len(observation), images - len(found.shown))):
        target = observation.targets[index]
        name = names[target.image_id]
        files, data = {}, {}
        for kind in IMAGE_PICTURES:
            if kind in found.missing:
                continue
            picture = DRAW_OF_IMAGE[kind](observation, index)
            path = out / "images" / f"{len(found.shown) + 1:03d}_{Path(name).stem}_{kind}.png"
            files[kind], data[kind] = picture.save(path), picture.data
        found.shown.append(ShownImage(name, target.image_id, len(target), files, data))


def _charts(found: _Found, out: Path) -> dict[str, Path]:
    charts = {}
    if found.origins is not None:
        charts["query_levels"] = query_level_chart(found.origins).save(out / "query_levels.png")
    if found.counting is not None:
        charts["counting"] = counting_chart(found.counting).save(out / "counting.png")
    assert set(charts) <= set(CHARTS)
    return charts


def _tables(found: _Found) -> dict[str, Any]:
    return {
        "query_levels": None if found.origins is None else found.origins.to_json(),
        "counting": None if found.counting is None else found.counting.to_json(),
        "missing": found.missing,
        "images": [{"file": image.name, "image_id": image.image_id, **image.data} for image in found.shown],
    }


def _write_text(path: Path, text: str) -> Path:
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8") and None)
    return path
