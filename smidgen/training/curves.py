"""One picture of a run: losses, learning rate and metrics over its steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smidgen.checkpoints.atomic_write import write_atomically

_SHOWN_TERMS = 6
_SHOWN_METRICS = ("AP", "AP50", "AP75", "APvt", "APt", "APs")


def draw_curves(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the lines of metrics.jsonl to a PNG; nothing is drawn before there is a training line."""
    training = [line for line in lines if line["kind"] == "train"]
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    if not training:
        return
    figure = Figure(figsize=(15, 4.2), dpi=100)
    losses, rate, metrics = figure.subplots(
        1, 3, gridspec_kw={"left": 0.05, "right": 0.99, "bottom": 0.13, "wspace": 0.2}
    )
    _draw_losses(losses, training)
    _draw_learning_rate(rate, training)
    _draw_metrics(metrics, evaluations)
    write_atomically(path, lambda partial: figure.savefig(partial, format="png"))


def _draw_losses(axes: Axes, training: Sequence[dict[str, Any]]) -> None:
    steps = [line["step"] for line in training]
    axes.plot(steps, [line["loss"] for line in training], color="black", linewidth=1.8, label="sum")
    final = training[-1]["losses"]
    # The last layer's terms have the plainest names; a layer's number or a set's name is appended to the others.
    for name in sorted(final, key=lambda name: (name.count("_"), name))[:_SHOWN_TERMS]:
        axes.plot(steps, [line["losses"].get(name, float("nan")) for line in training], linewidth=0.9, label=name)
    if all(line["loss"] > 0 for line in training):
        axes.set_yscale("log")
    _finish(axes, "losses")


def _draw_learning_rate(axes: Axes, training: Sequence[dict[str, Any]]) -> None:
    steps = [line["step"] for line in training]
    for name in training[-1]["learning_rates"]:
        axes.plot(steps, [line["learning_rates"].get(name, float("nan")) for line in training], label=name)
    _finish(axes, "learning rates")


def _draw_metrics(axes: Axes, evaluations: Sequence[dict[str, Any]]) -> None:
    if not evaluations:
        axes.text(0.5, 0.5, "no evaluation yet", ha="center")
    minutes = [line["seconds"] / 60 for line in evaluations]
    # -1 says that there is no ground truth of that kind.
    names = [name for name, value in evaluations[-1]["metrics"].items() if value != -1] if evaluations else []
    for name in [name for name in _SHOWN_METRICS if name in names] or names[:_SHOWN_TERMS]:
        axes.plot(minutes, [line["metrics"].get(name, float("nan")) for line in evaluations], marker=".", label=name)
    _finish(axes, "metrics of the evaluations", "minutes")


def _finish(axes: Axes, title: str, horizontal: str = "step") -> None:
    axes.set_title(title)
    axes.set_xlabel(horizontal)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")
