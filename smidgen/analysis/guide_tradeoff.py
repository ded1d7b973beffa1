"""What guided tiling saves and costs: tiles looked at and time, against recall and accuracy, beside all tiles.

Every setting sees every image in turn, one tile at a time, so that a machine that is busy for a while is busy for all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn
from torchvision.ops import box_iou

from smidgen.analysis.panels import Picture, how_many
from smidgen.data import DetectionDataset, Record
from smidgen.evaluation.detect_and_score import ids_in_dataset
from smidgen.evaluation.model_state import device_of, evaluating
from smidgen.evaluation.protocol import load_protocol
from smidgen.evaluation.scoring import score
from smidgen.evaluation.tiled import SCORE_FLOOR, results_of_image
from smidgen.inference.guide_recall import GuideChoice, GuideScores, guide_scores
from smidgen.inference.guided_tiling import UNSEEN, Guide, GuidedTiles
from smidgen.inference.tiling import Tiling, predict_tiled
from smidgen.structures import Detections

FOUND_IOU, FOUND_SCORE = 0.5, 0.3
RECALLS = (0.9, 0.95, 0.98, 0.99, 0.995, 1.0)


@dataclass(frozen=True, slots=True)
class GuideTradeoffPoint:
    """One setting, measured. wanted_recall, threshold: None where all tiles are looked at.

    share: tiles looked at of all. recall: objects whose tile is looked at. found: objects with a detection of any class
    with IoU >= 0.5 and score >= 0.3. seconds: of CPU time for an image on average, reading and guide included.
    """

    wanted_recall: float | None
    threshold: float | None
    share: float
    recall: float
    found: float
    seconds: float
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class GuideTradeoff:
    """All settings, all tiles first. images, objects, tiles: that shares and recalls are of; detected_on: images that
    the detector saw. curve: of every threshold, on the same images.
    """

    points: tuple[GuideTradeoffPoint, ...]
    guide: Mapping[str, Any]
    tiling: Mapping[str, Any]
    protocol: str
    images: int
    objects: int
    tiles: int
    detected_on: int
    curve: GuideChoice

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        points = [{**asdict(point), "metrics": dict(point.metrics)} for point in self.points]
        plain = ("protocol", "images", "objects", "tiles", "detected_on")
        values = {name: getattr(self, name) for name in plain}
        return {
            **values,
            "guide": dict(self.guide),
            "tiling": dict(self.tiling),
            "points": points,
            "curve": self.curve.to_json()["curve"],
        }


def measure_guide(
    model: nn.Module,
    choose_on: DetectionDataset,
    dataset: DetectionDataset,
    tiling: Tiling,
    guide: Guide,
    *,
    recalls: Sequence[float] = RECALLS,
    detect_on: int | None = None,
    protocol: str = "coco",
    progress: Callable[[int, int], None] | None = None,
) -> GuideTradeoff:
    """Thresholds for the recalls are chosen on one data set, and everything is measured on the other.

    detect_on: number of images that the detector sees, too (None: all); the guide alone, whose recall and share of
    tiles are reported, sees all. progress: called with the number of images detected on and of all. Raises ValueError
    as `GuidedTiles` and `GuideScores` do.
    """
    judged_by, tiling = load_protocol(protocol), tiling.for_model(model)
    with evaluating(model):
        looking = GuidedTiles(model, guide, device_of(model))
        chosen = guide_scores(looking, choose_on, tiling)
        choices = [chosen.choose(recall) for recall in recalls]
        measured, seen = guide_scores(looking, dataset, tiling), dataset.subset(range(len(dataset))[:detect_on])
        settings = [
            (None, None),
            *((recall, choice.threshold) for recall, choice in zip(recalls, choices, strict=True)),
        ]
        runs = [
            _Run(model, seen, tiling, None if threshold is None else replace(guide, threshold=threshold), recall)
            for recall, threshold in settings
        ]
        for number, record in enumerate(seen.records):
            for run in [*runs[number % len(runs) :], *runs[: number % len(runs)]]:
                run.look_at(record)
            if progress is not None:
                progress(number + 1, len(seen))
    truth = seen.coco_ground_truth()
    points = tuple(run.point(measured, score(truth, run.predictions, judged_by).metrics) for run in runs)
    plain = {"scale": guide.scale, "block_px": guide.block_px, "own_model": guide.model is not None}
    counts = len(dataset), len(measured.objects), len(measured.tiles), len(seen)
    return GuideTradeoff(points, plain, tiling.described(), judged_by.name, *counts, measured.choose(1.0))


@dataclass(slots=True)
class _Run:
    """A setting while it is measured."""

    model: nn.Module
    dataset: DetectionDataset
    tiling: Tiling
    guide: Guide | None
    wanted_recall: float | None
    predictions: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    found: int = 0
    objects: int = 0
    answers: Iterator[Detections] = field(init=False)

    def __post_init__(self) -> None:
        device = device_of(self.model)
        self.answers = predict_tiled(
            self.model,
            [record.file for record in self.dataset.records],
            self.tiling,
            score=SCORE_FLOOR,
            max_detections=None,
            batch_size=1,
            device=device,
            on_unreadable=_refuse,
            on_note=_unsaid,
            choose=None if self.guide is None else GuidedTiles(self.model, self.guide, device),
        )

    def look_at(self, record: Record) -> None:
        """The next image, which is that of the record."""
        start = time.process_time()
        detections = next(self.answers)
        self.seconds += time.process_time() - start
        ids = ids_in_dataset(self.model.classes, self.dataset.classes)  # type: ignore[arg-type]
        self.predictions += results_of_image(detections, record.image_id, ids)
        boxes = detections.above(FOUND_SCORE).boxes_xyxy.cpu()
        overlaps = box_iou(torch.from_numpy(record.boxes_xyxy), boxes)
        self.objects += len(record)
        self.found += int((overlaps >= FOUND_IOU).any(dim=1).sum())

    def point(self, scores: GuideScores, metrics: Mapping[str, float]) -> GuideTradeoffPoint:
        """What was measured. scores: of the guide, on all images."""
        threshold = UNSEEN if self.guide is None else self.guide.threshold
        share, recall = ((of >= threshold).double().mean().item() for of in (scores.tiles, scores.objects))
        found, seconds = self.found / max(self.objects, 1), self.seconds / len(self.dataset)
        own = None if self.guide is None else threshold
        return GuideTradeoffPoint(self.wanted_recall, own, share, recall, found, seconds, dict(metrics))


def _refuse(error: Exception) -> None:
    raise error


def _unsaid(note: str) -> None:
    """Limits of a look are the same for all settings."""


def guide_picture(tradeoff: GuideTradeoff, metric: str = "AP50") -> Picture:
    """Recall over the share of tiles, and what the detector finds over time; data: `GuideTradeoff.to_json()`."""
    figure = Figure(figsize=(12.0, 4.8), layout="constrained")
    counts = f"{how_many(tradeoff.images, 'image')}, {how_many(tradeoff.objects, 'object')}, {tradeoff.tiles} tiles"
    figure.suptitle(f"What guided tiling saves and what it costs ({counts})", fontsize=13)
    over_tiles, over_time = figure.subplots(1, 2)
    curve = tradeoff.curve.curve
    over_tiles.plot(
        [100 * point.share for point in curve],
        [100 * point.recall for point in curve],
        color="#56B4E9",
        label="every threshold",
    )
    _marks(over_tiles, tradeoff, lambda point: 100 * point.share, lambda point: 100 * point.recall, "objects in them")
    over_tiles.set(xlabel="tiles looked at in per cent (logarithmic)", ylabel="objects in per cent", xscale="log")
    _marks(over_time, tradeoff, lambda point: point.seconds, lambda point: 100 * point.found, "objects found")
    _marks(
        over_time, tradeoff, lambda point: point.seconds, lambda point: 100 * point.metrics[metric], metric, "#D55E00"
    )
    over_time.set(xlabel="CPU seconds for an image, guide included", ylabel="per cent")
    over_time.set_xlim(left=0)
    over_time.set_ylim(bottom=0)
    for axes in (over_tiles, over_time):
        axes.legend(fontsize=9, loc="center right")
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    return Picture(figure, tradeoff.to_json())


def _marks(
    axes: Axes,
    tradeoff: GuideTradeoff,
    x: Callable[[GuideTradeoffPoint], float],
    y: Callable[[GuideTradeoffPoint], float],
    label: str,
    color: str = "#0072B2",
) -> None:
    everything, *guided = tradeoff.points
    axes.plot([x(point) for point in guided], [y(point) for point in guided], "o", color=color, label=label)
    axes.plot(x(everything), y(everything), "*", color=color, markersize=13, label=f"{label}, all tiles")
