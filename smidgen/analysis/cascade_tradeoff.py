"""What a cascade costs and saves: accuracy against computed cells and time, by threshold and by budget, beside dense.

Yang et al., "QueryDet: Cascaded Sparse Query for Accelerating High-Resolution Small Object Detection", CVPR 2022,
figure 4, which moves the threshold; a budget of keys for each image is not in the paper. Every setting sees every image
in turn, so that a machine that is busy for a while is busy for all of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from smidgen.analysis.cascade_threshold import cascade_of
from smidgen.analysis.panels import Picture, how_many
from smidgen.data import DetectionDataset, evaluation_loader
from smidgen.decoder.cascaded_head import ComputedCells
from smidgen.evaluation.detect_and_score import as_results, ids_in_dataset
from smidgen.evaluation.model_state import device_of, evaluating
from smidgen.evaluation.protocol import load_protocol
from smidgen.evaluation.scoring import score
from smidgen.structures import DenseOutput, Detections, ImageBatch, evidence_of
from smidgen.tokens.cascade_sparse_query import CascadeSparseQuery

THRESHOLDS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
BY_THRESHOLD, BY_BUDGET, DENSE = "threshold", "budget", "dense"
COLORS = {BY_THRESHOLD: "#0072B2", BY_BUDGET: "#D55E00", DENSE: "#555555"}
WORDS = {BY_THRESHOLD: "by threshold", BY_BUDGET: "by budget of keys", DENSE: "all cells computed"}
PER_CENTS = (0, 0.1, 0.5, 1, 2, 5, 10, 20, 50, 100)
MARKS = {BY_THRESHOLD: "o", BY_BUDGET: "s", DENSE: "*"}


@dataclass(frozen=True, slots=True)
class TradeoffPoint:
    """One setting, measured. kind: what was varied, "threshold", "budget" or "dense" (then both are None).

    share: computed cells of all cells of the sparse levels, context included. latency_ms: median over images, one at a
    time, from pixels on the device to detections. metrics: of the protocol.
    """

    kind: str
    threshold: float | None
    budget: int | float | None
    share: float
    latency_ms: float
    metrics: Mapping[str, float]

    @property
    def name(self) -> str:
        """The value of what was varied."""
        value = {BY_THRESHOLD: self.threshold, BY_BUDGET: self.budget}.get(self.kind)
        return DENSE if value is None else f"{value:g}"


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """All settings, the dense one first."""

    points: tuple[TradeoffPoint, ...]
    protocol: str
    device: str
    images: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        points = [{**asdict(point), "metrics": dict(point.metrics)} for point in self.points]
        return {"protocol": self.protocol, "device": self.device, "images": self.images, "points": points}


def settings_of(
    cascade: CascadeSparseQuery, thresholds: Sequence[float], budgets: Sequence[int | float] = ()
) -> list[tuple[str, CascadeSparseQuery | None]]:
    """(kind, cascade) of everything to measure: dense, the model's cascade at each threshold without a budget, and
    with each budget at its own threshold.
    """
    by_threshold = [(BY_THRESHOLD, replace(cascade, threshold=value, budget=None)) for value in thresholds]
    by_budget = [(BY_BUDGET, replace(cascade, budget=value)) for value in budgets]
    return [(DENSE, None), *by_threshold, *by_budget]


@torch.inference_mode()
def measure_tradeoff(
    model: nn.Module,
    dataset: DetectionDataset,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    budgets: Sequence[int | float] = (),
    protocol: str = "coco",
    progress: Callable[[int, int], None] | None = None,
) -> Tradeoff:
    """Detect on every image with every setting, one image at a time, and score what was found.

    budgets: keys of an image at most, as a number or a share of the level's cells. progress: called with the number of
    images done and of all. The model keeps its cascade. Raises ValueError for a model without one and where model and
    data set have no class in common.
    """
    settings, judged_by = settings_of(cascade_of(model), thresholds, budgets), load_protocol(protocol)
    class_ids = ids_in_dataset(model.classes, dataset.classes)  # type: ignore[arg-type]
    runs = [_Run(model, kind, cascade) for kind, cascade in settings]
    preprocessing: Any = model.config.preprocessing  # type: ignore[union-attr]
    done = 0
    with evaluating(model):
        for images, targets in evaluation_loader(dataset, preprocessing=preprocessing, batch_size=1):
            batch, original_hw = images.to(device_of(model)), [target.original_hw for target in targets]
            if not done:
                _warm_up(runs, batch, original_hw)
            for run in _in_turn(runs, done):
                run.predictions += as_results(run(batch, original_hw), targets, class_ids)
            done += len(images)
            if progress is not None:
                progress(done, len(dataset))
    if not done:
        raise ValueError(f"expected at least one readable image to measure on, got none in {dataset.path}")
    truth = dataset.coco_ground_truth()
    points = tuple(run.point(score(truth, run.predictions, judged_by).metrics) for run in runs)
    return Tradeoff(points, judged_by.name, str(device_of(model)), done)


def _warm_up(runs: Sequence[_Run], images: ImageBatch, original_hw: Sequence[tuple[int, int]]) -> None:
    for run in runs:
        run(images, original_hw)
        run.forget()


def _in_turn(runs: Sequence[_Run], first: int) -> list[_Run]:
    """Another one begins with each image, so that none always finds the caches of the same other one."""
    start = first % len(runs)
    return [*runs[start:], *runs[:start]]


class _Run:
    """A setting while it is measured."""

    def __init__(self, model: nn.Module, kind: str, cascade: CascadeSparseQuery | None) -> None:
        self.model: Any = model
        self.kind, self.cascade = kind, cascade
        self.predictions: list[dict[str, Any]] = []
        self.forget()

    def forget(self) -> None:
        """Begin again to measure."""
        self.seconds: list[float] = []
        self.computed = self.cells = 0

    def __call__(self, images: ImageBatch, original_hw: Sequence[tuple[int, int]]) -> list[Detections]:
        querying = self.model.querying
        self.model.querying = replace(querying, cascade=self.cascade)
        try:
            start = _now(images)
            output: DenseOutput = self.model(images)
            found: list[Detections] = self.model.readout(output, original_hw, self.model.classes)
            self.seconds.append(_now(images) - start)
        finally:
            self.model.querying = querying
        self._count(output)
        return found

    def point(self, metrics: Mapping[str, float]) -> TradeoffPoint:
        """What was measured."""
        share = self.computed / self.cells if self.cells else 1.0
        cascade = self.cascade
        threshold, budget = (None, None) if cascade is None else (cascade.threshold, cascade.budget)
        milliseconds = statistics.median(self.seconds) * 1000
        return TradeoffPoint(self.kind, threshold, budget, share, milliseconds, dict(metrics))

    def _count(self, output: DenseOutput) -> None:
        found = evidence_of(output.evidence, ComputedCells)
        for level in () if found is None else found.levels:
            self.computed += len(level.active)
            self.cells += level.active.batch * level.active.shape[0] * level.active.shape[1]


def _now(images: ImageBatch) -> float:
    if images.pixels.is_cuda:
        torch.cuda.synchronize(images.pixels.device)
    return time.perf_counter()


def tradeoff_picture(tradeoff: Tradeoff, metric: str = "AP") -> Picture:
    """The metric over the median time of an image, and over the share of computed cells; a mark per setting.

    data: `Tradeoff.to_json()`. Raises ValueError for a metric that the protocol does not have.
    """
    known = tradeoff.points[0].metrics
    if metric not in known:
        raise ValueError(f"expected one of the protocol's metrics {', '.join(known)}, got {metric!r}")
    figure = Figure(figsize=(12.0, 4.9), layout="constrained")
    where = f"{how_many(tradeoff.images, 'image')}, one at a time on {tradeoff.device}"
    figure.suptitle(f"What the cascade saves and what it costs ({where})", fontsize=13)
    over_time, over_cells = figure.subplots(1, 2, sharey=True)
    _draw(over_time, tradeoff, metric, lambda point: point.latency_ms)
    _draw(over_cells, tradeoff, metric, lambda point: 100 * point.share)
    over_time.set(xlabel="median time of an image in ms", ylabel=f"{metric} ({tradeoff.protocol})")
    over_time.set_xlim(0, 1.12 * max(point.latency_ms for point in tradeoff.points))
    over_time.set_ylim(bottom=0)
    over_cells.set_xscale("symlog", linthresh=0.1)
    over_cells.set_xticks(PER_CENTS, [f"{value:g}" for value in PER_CENTS])
    over_cells.set_xticks([], minor=True)
    over_cells.set_xlim(-0.02, 200)
    over_cells.set(xlabel="computed cells of the sparse levels in per cent (logarithmic above 0.1)")
    over_time.legend(fontsize=9, loc="lower right")
    return Picture(figure, tradeoff.to_json())


def _draw(axes: Axes, tradeoff: Tradeoff, metric: str, place: Callable[[TradeoffPoint], float]) -> None:
    for kind, color in COLORS.items():
        points = _drawn(tradeoff, kind)
        if not points:
            continue
        x, y = [place(point) for point in points], [point.metrics[metric] for point in points]
        axes.plot(x, y, color=color, marker=MARKS[kind], markersize=12 if kind == DENSE else 6, label=WORDS[kind])
        for point, *at in zip(points, x, y, strict=True):
            _name(axes, point, (at[0], at[1]), color)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(0.08, 0.15)


def _drawn(tradeoff: Tradeoff, kind: str) -> list[TradeoffPoint]:
    """Most computed cells first. Of thresholds above which there is nothing only the first: the others are alike."""
    points = sorted((point for point in tradeoff.points if point.kind == kind), key=lambda point: -point.share)
    idle = [number for number, point in enumerate(points) if not point.share]
    return points[: idle[0] + 1] if idle else points


def _name(axes: Axes, point: TradeoffPoint, at: tuple[float, float], color: str) -> None:
    """Names of thresholds to the upper left of their rising line, others to the lower right."""
    above = point.kind == BY_THRESHOLD
    axes.annotate(
        point.name,
        at,
        xytext=(-5, 3) if above else (5, -4),
        textcoords="offset points",
        ha="right" if above else "left",
        va="bottom" if above else "top",
        fontsize=8,
        color=color,
    )
