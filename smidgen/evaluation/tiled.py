"""A model judged on large images that it looks at in tiles, all of them or those that a guide chooses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from smidgen.data import DetectionDataset, UnreadableImageError
from smidgen.evaluation.detect_and_score import ids_in_dataset, settings_of_model
from smidgen.evaluation.evaluation import Evaluation
from smidgen.evaluation.model_state import device_of, evaluating
from smidgen.evaluation.protocol import Protocol, load_protocol
from smidgen.evaluation.scoring import score
from smidgen.inference.guided_tiling import GuidedTiles
from smidgen.inference.tiling import TileChooser, Tiling, predict_tiled
from smidgen.inference.tiling.prediction import OnNote
from smidgen.structures import Detections

SCORE_FLOOR = 0.01
"""Of tiles' detections: hundreds of each tile would otherwise be merged that no figure notices."""


def evaluate_tiled(
    model: nn.Module,
    dataset: DetectionDataset,
    tiling: Tiling,
    *,
    protocol: str | Path | Protocol = "coco",
    batch_size: int = 2,
    device: torch.device | str | None = None,
    choose: TileChooser | None = None,
    least_score: float = SCORE_FLOOR,
    progress: Callable[[int, int], None] | None = None,
    on_note: OnNote | None = None,
) -> Evaluation:
    """As `smidgen.evaluation.evaluate`, of tiles. batch_size: tiles at a time. choose: which tiles are looked at (None:
    all). least_score: detections below are dropped before tiles are merged; settings["score_floor"] says so, and
    settings["tiling"] and ["guide"] how images were looked at. on_note: hears of the memory that will be taken, and of
    limits that were met (None: nobody; what a limit did shows in the figures).
    """
    protocol, tiling = load_protocol(protocol), tiling.for_model(model)
    class_ids = ids_in_dataset(model.classes, dataset.classes)  # type: ignore[arg-type]
    records = {str(record.file): record for record in dataset.records}
    predictions: list[dict[str, Any]] = []
    seen: set[int | str] = set()
    with evaluating(model):
        found = predict_tiled(
            model,
            [record.file for record in dataset.records],
            tiling,
            score=least_score,
            max_detections=None,
            batch_size=batch_size,
            device=device_of(model) if device is None else device,
            on_unreadable=_left_out,
            on_note=on_note or _unsaid,
            choose=choose,
        )
        for detections in found:
            image_id = records[detections.file].image_id
            predictions += results_of_image(detections, image_id, class_ids)
            seen.add(image_id)
            if progress is not None:
                progress(len(seen), len(dataset))
    settings = {**settings_of_model(model, dataset, seen), "tiling": tiling.described(), "score_floor": least_score}
    if isinstance(choose, GuidedTiles):
        settings["guide"] = choose.to_json()
    return score(dataset.coco_ground_truth(), predictions, protocol, settings=settings)


def results_of_image(detections: Detections, image_id: int | str, class_ids: Mapping[int, int]) -> list[dict[str, Any]]:
    """COCO results with the data set's ids; classes that it lacks are dropped."""
    kept = detections[torch.isin(detections.labels, torch.tensor(list(class_ids)))]
    numbered = replace(kept, image_id=image_id, category_ids=())  # category_id = the model's class index
    return [{**result, "category_id": class_ids[result["category_id"]]} for result in numbered.to_coco()]


def _left_out(error: UnreadableImageError) -> None:
    """Named in settings["skipped"]."""


def _unsaid(note: str) -> None:
    """Nobody asked."""
