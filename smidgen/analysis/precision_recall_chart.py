"""Precision against recall by object size and by class, with the score threshold of the best F1."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smidgen.analysis.panels import Picture, how_many, level_color
from smidgen.evaluation.precision_curve import RECALL_LEVELS
from smidgen.evaluation.precision_recall import Curve, PrecisionRecall

MOST_CLASSES = 7
LONGEST_NAME = 18


def precision_recall_chart(curves: PrecisionRecall) -> Picture:
    """Left the mean over classes per size bin, right the classes with most objects. data: `PrecisionRecall.to_json()`.

    The circle marks the score threshold with the best F1.
    """
    figure = Figure(figsize=(12.0, 5.6), layout="constrained")
    figure.suptitle(f"Precision and recall at IoU {curves.iou_threshold:g}", fontsize=13)
    left, right = figure.subplots(1, 2)
    _draw_sizes(left, curves)
    _draw_classes(right, curves)
    for axes in (left, right):
        axes.set(xlim=(0, 1), ylim=(0, 1.03), xlabel="recall", ylabel="precision")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#DDDDDD", linewidth=0.6)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, frameon=True, framealpha=0.85, edgecolor="none", loc="best")
    return Picture(figure, curves.to_json())


def _draw_sizes(axes: Axes, curves: PrecisionRecall) -> None:
    for index, pooled in enumerate(curve for curve in curves.pooled if curve.objects):
        mean = curves.mean(pooled.size)
        label = f"{pooled.size}: AP {mean.mean():.3f}{_best(pooled)}, {how_many(pooled.objects, 'object')}"
        width = 2.4 if index == 0 else 1.6
        axes.plot(RECALL_LEVELS, mean, color=level_color(index), linewidth=width, label=label)
    axes.set_title("by object size, mean over classes (threshold: of all classes together)", fontsize=10)


def _draw_classes(axes: Axes, curves: PrecisionRecall) -> None:
    classes = sorted(curves.of_size(curves.sizes[0]), key=lambda curve: -curve.objects) if curves.sizes else []
    for index, curve in enumerate(classes[:MOST_CLASSES]):
        name = curve.label if len(curve.label) <= LONGEST_NAME else f"{curve.label[: LONGEST_NAME - 1]}…"
        label = f"{name}: AP {curve.average_precision:.3f}{_best(curve)}"
        axes.plot(RECALL_LEVELS, curve.precision, color=level_color(index), linewidth=1.6, label=label)
        if curve.best is not None:
            axes.plot(curve.best.recall, curve.best.precision, "o", markersize=6, mfc="white", mec=level_color(index))
    rest = len(classes) - MOST_CLASSES
    words = f"by class, {MOST_CLASSES} with most objects of {len(classes)}" if rest > 0 else "by class"
    axes.set_title(words, fontsize=10)


def _best(curve: Curve) -> str:
    return "" if curve.best is None else f", best F1 {curve.best.f1:.2f} from score {curve.best.score:.2f}"
