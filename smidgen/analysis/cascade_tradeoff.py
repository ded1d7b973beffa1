"""What a cascade costs and saves: accuracy against computed cells and time, by threshold and by budget, beside dense.

Yang et al., "QueryDet: Cascaded Sparse Query for Accelerating High-Resolution Small Object Detection", CVPR 2022,
figure 4, which moves the threshold; a budget of keys for each image is not in the paper. How it is measured stands in
`smidgen.analysis.cascade_measuring`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from smidgen.analysis.cascade_measuring import Measured, Setting, measure_settings
from smidgen.analysis.cascade_threshold import cascade_of
from smidgen.analysis.panels import Picture, how_many
from smidgen.data import DetectionDataset
from smidgen.evaluation.model_state import device_of
from smidgen.evaluation.protocol import load_protocol
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

    budgets: keys of an image at most, as a number or a share of its cells on the level. progress: called with the
    number of images done and of all. The model keeps its cascade. Raises ValueError for a model without one, and as
    `smidgen.analysis.cascade_measuring.measure_settings` does.
    """
    kinds, judged_by = settings_of(cascade_of(model), thresholds, budgets), load_protocol(protocol)
    found = measure_settings(model, dataset, [Setting(cascade) for _, cascade in kinds], judged_by, progress)
    points = tuple(_point(kind, cascade, found[Setting(cascade)]) for kind, cascade in kinds)
    return Tradeoff(points, judged_by.name, str(device_of(model)), found[Setting(None)].images)


def _point(kind: str, cascade: CascadeSparseQuery | None, found: Measured) -> TradeoffPoint:
    threshold, budget = (None, None) if cascade is None else (cascade.threshold, cascade.budget)
    return TradeoffPoint(kind, threshold, budget, found.share, found.latency_ms, found.metrics)


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
