"""How unequally the query rows share the work: how often each is active, and the Gini coefficient of these counts.

PaQ-DETR (CVPR 2026, arXiv 2603.06917) motivates its patterns by it: 0.97 for DINO, 0.89 with patterns. Row i is active
in an image by one of three definitions: "score", its best class score on the last decoder layer is above 0.3 (the
development code of the first author, and the published figures); "matched", it answers for an object by the matching of
training; "topk", it is in one of the image's 100 best detections.

In two-stage models row i holds the image's i-th best proposal. Seven objects per image then fill the first rows, so
that a high Gini partly reflects this ranking and not idle queries. Counts by the level of the proposal, and the Gini
over levels, stand beside it: they do not depend on the ranking.

Small images have fewer proposals, and models that count objects ask fewer queries where there are few: the last rows
do not exist in every image. So a row's activity is the share of the images in which it exists; where all rows always
do, the figures are those of the counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from smidgen.analysis.observation import Observation
from smidgen.analysis.panels import Picture, how_many
from smidgen.boxes import full_precision
from smidgen.structures import Matches, Predictions

SCORE_THRESHOLD = 0.3
BEST_DETECTIONS = 100
PARETO_SHARE = 0.2
DEFINITIONS: dict[str, str] = {
    "score": f"a class score above {SCORE_THRESHOLD}",
    "matched": "answers for an object",
    "topk": f"in the {BEST_DETECTIONS} best detections",
}
DEFINITION_COLORS = {"score": "#0072B2", "matched": "#D55E00", "topk": "#009E73"}


@dataclass(frozen=True, slots=True)
class ActivationCounts:
    """In how many images each query row was active; counts of several batches add up.

    images: how many were counted. existing: by row, the images in which it was no padding. active: by definition, by
    row. matched_by_layer: by decoder layer and row, the images in which it answered for an object on that layer.
    strides: pixels per cell of the proposals' levels, () for learned queries. queries_by_level, active_by_level: all
    queries and, by definition, the active ones by level of their proposal.
    """

    images: int
    existing: npt.NDArray[np.int64]
    active: Mapping[str, npt.NDArray[np.int64]]
    matched_by_layer: npt.NDArray[np.int64]
    strides: tuple[int, ...]
    queries_by_level: npt.NDArray[np.int64]
    active_by_level: Mapping[str, npt.NDArray[np.int64]]

    def counts(self, definition: str) -> npt.NDArray[np.int64]:
        """Images in which each row was active, of the rows that ever existed."""
        return self.active[definition][self.existing > 0]

    def rates(self, definition: str) -> npt.NDArray[np.float64]:
        """Share of the images with this row in which it was active, of the rows that ever existed."""
        rates: npt.NDArray[np.float64] = self.counts(definition) / self.existing[self.existing > 0]
        return rates

    def layer_rates(self) -> npt.NDArray[np.float64]:
        """`matched_by_layer` as shares of the images with the row, of the rows that ever existed."""
        ever = self.existing > 0
        rates: npt.NDArray[np.float64] = self.matched_by_layer[:, ever] / self.existing[ever]
        return rates

    def level_share(self, definition: str) -> npt.NDArray[np.float64]:
        """Share of the queries of each level that were active."""
        share: npt.NDArray[np.float64] = self.active_by_level[definition] / np.maximum(self.queries_by_level, 1)
        return share

    def __add__(self, other: ActivationCounts) -> ActivationCounts:
        if self.strides != other.strides or len(self.matched_by_layer) != len(other.matched_by_layer):
            raise ValueError(
                "expected counts of the same levels and decoder layers to add, got strides "
                f"{self.strides} and {other.strides}, {len(self.matched_by_layer)} and "
                f"{len(other.matched_by_layer)} layers"
            )
        return ActivationCounts(
            self.images + other.images,
            _sum_of_rows(self.existing, other.existing),
            {name: _sum_of_rows(rows, other.active[name]) for name, rows in self.active.items()},
            _sum_of_rows(self.matched_by_layer, other.matched_by_layer),
            self.strides,
            self.queries_by_level + other.queries_by_level,
            {name: levels + other.active_by_level[name] for name, levels in self.active_by_level.items()},
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values: the figures by definition, of the matched counts by layer, and by level of the proposals."""
        return {
            "images": self.images,
            "queries": int((self.existing > 0).sum()),
            "definitions": {
                name: {**inequality(self.rates(name)), "counts": self.counts(name).tolist()} for name in self.active
            },
            "matched_by_layer": [
                {"layer": number, "matched": int(matched.sum()), **inequality(rates)}
                for number, (matched, rates) in enumerate(zip(self.matched_by_layer, self.layer_rates(), strict=True))
            ],
            "by_level": self._levels_to_json() if self.strides else None,
        }

    def _levels_to_json(self) -> dict[str, Any]:
        return {
            "strides": list(self.strides),
            "queries": self.queries_by_level.tolist(),
            "active": {name: levels.tolist() for name, levels in self.active_by_level.items()},
            "gini_over_levels": {name: gini(levels) for name, levels in self.active_by_level.items()},
        }


def gini(counts: npt.ArrayLike) -> float:
    """Gini coefficient of n counts >= 0: mean absolute difference of all pairs / (2 mean).

    0 where all are equal, and (by choice) where all are zero or there is none; (n - 1) / n where one has everything.
    """
    ascending = np.sort(np.asarray(counts, dtype=np.float64))
    number, total = len(ascending), ascending.sum()
    if total == 0:
        return 0.0
    # 2 sum(i x_i) / (n sum(x)) - (n + 1) / n, in one sum of terms that cancel exactly for equal counts.
    ranks = 2.0 * np.arange(1, number + 1) - number - 1
    return max(0.0, float((ranks * (ascending / total)).sum() / number))


def pareto_share(counts: npt.ArrayLike, share: float = PARETO_SHARE) -> float:
    """Part of all activations that the floor(share n) most active of n rows have; 0 where there are none."""
    descending = np.sort(np.asarray(counts, dtype=np.float64))[::-1]
    first = int(share * len(descending) + 1e-9)
    return float(descending[:first].sum() / descending.sum()) if descending.sum() else 0.0


def active_fraction(counts: npt.ArrayLike) -> float:
    """Share of the rows that were active at all."""
    values = np.asarray(counts)
    return float((values > 0).mean()) if values.size else 0.0


def entropy(counts: npt.ArrayLike) -> float:
    """Entropy of the counts as shares, in nats: 0 where one row has everything, log n where all are equal."""
    values = np.asarray(counts, dtype=np.float64)
    shares = values[values > 0] / max(values.sum(), 1e-300)
    return max(0.0, float(-(shares * np.log(shares)).sum()))


def inequality(counts: npt.ArrayLike) -> dict[str, float]:
    """The figures of one row of counts by name."""
    return {
        "gini": gini(counts),
        "pareto_20": pareto_share(counts),
        "active_fraction": active_fraction(counts),
        "entropy": entropy(counts),
    }


def active_by_score(scores: Float[Tensor, "B Q K"], threshold: float = SCORE_THRESHOLD) -> Bool[Tensor, "B Q"]:
    """Rows whose best class score is strictly above the threshold."""
    return scores.amax(dim=-1) > threshold


def active_by_rank(scores: Float[Tensor, "B Q K"], number: int = BEST_DETECTIONS) -> Bool[Tensor, "B Q"]:
    """Rows with at least one of the image's `number` best (row, class) pairs; scores below 0 never count."""
    best, index = scores.flatten(1).topk(min(number, scores.shape[1] * scores.shape[2]), dim=1)
    hits = torch.zeros_like(scores[..., 0]).scatter_add_(1, index // scores.shape[2], (best >= 0).to(scores.dtype))
    return hits > 0


def scores_of(predictions: Predictions) -> Float[Tensor, "B Q K"]:
    """Class scores in [0, 1] of every row; -1 in rows that do not exist."""
    scores = full_precision(predictions.logits).sigmoid()
    return scores if predictions.padding is None else scores.masked_fill(predictions.padding[..., None], -1.0)


def count_activations(observation: Observation) -> ActivationCounts:
    """Count one batch. Rows that do not exist are never active."""
    output, scores = observation.output, scores_of(observation.output.final)
    layers = [observation.assignment(layer, observation.targets) for layer in output.auxiliary]
    matched = [_matched(matches, scores) for matches in (*layers, observation.matches)]
    active = {"score": active_by_score(scores), "matched": matched[-1], "topk": active_by_rank(scores)}
    existing = scores[..., 0] >= 0
    strides = () if output.level is None or observation.tokens is None else tuple(observation.tokens.strides)
    return ActivationCounts(
        images=len(observation),
        existing=_by_row(existing),
        active={name: _by_row(rows) for name, rows in active.items()},
        matched_by_layer=np.stack([_by_row(rows) for rows in matched]),
        strides=strides,
        queries_by_level=_by_level(existing, output.level, len(strides)),
        active_by_level={name: _by_level(rows, output.level, len(strides)) for name, rows in active.items()},
    )


def activation_chart(counts: ActivationCounts) -> Picture:
    """Rows from the most to the least active, Lorenz curves, matched rows by decoder layer, activity by level.

    data: `ActivationCounts.to_json()`.
    """
    figure = Figure(figsize=(13.0, 9.2), layout="constrained")
    queries = how_many(int((counts.existing > 0).sum()), "query")
    figure.suptitle(f"How {queries} share the work in {how_many(counts.images, 'image')}", fontsize=13)
    sorted_rows, lorenz, layers, levels = figure.subplots(2, 2).flatten().tolist()
    _draw_sorted(sorted_rows, counts)
    _draw_lorenz(lorenz, counts)
    _draw_layers(layers, counts)
    _draw_levels(levels, counts)
    return Picture(figure, counts.to_json())


def _sum_of_rows(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Sum over the last axis' rows; rows that one side lacks count as zero there."""
    rows = max(first.shape[-1], second.shape[-1])
    padded = [np.pad(part, [(0, 0)] * (part.ndim - 1) + [(0, rows - part.shape[-1])]) for part in (first, second)]
    total: npt.NDArray[np.int64] = padded[0] + padded[1]
    return total


def _matched(matches: Matches, scores: Tensor) -> Bool[Tensor, "B Q"]:
    matched = torch.zeros_like(scores[..., 0], dtype=torch.bool)
    matched[matches.image, matches.query] = True
    return matched


def _by_row(active: Bool[Tensor, "B Q"]) -> npt.NDArray[np.int64]:
    counts: npt.NDArray[np.int64] = active.sum(dim=0).cpu().numpy()
    return counts


def _by_level(active: Bool[Tensor, "B Q"], level: Tensor | None, levels: int) -> npt.NDArray[np.int64]:
    if level is None or not levels:
        return np.zeros(0, dtype=np.int64)
    counts: npt.NDArray[np.int64] = torch.bincount(level[active], minlength=levels).cpu().numpy()
    return counts


def _draw_sorted(axes: Axes, counts: ActivationCounts) -> None:
    for name, words in DEFINITIONS.items():
        share = np.sort(counts.rates(name))[::-1]
        axes.step(np.arange(1, len(share) + 1), 100 * share, where="mid", color=DEFINITION_COLORS[name], label=words)
    axes.set(xlabel="queries, most active first", ylabel="active in how many of its images, in per cent", ylim=(0, 103))
    axes.set_xlim(left=0)
    axes.set_title("how often each query is active, by three definitions", fontsize=10)
    axes.legend(fontsize=9, loc="upper right")


def _draw_lorenz(axes: Axes, counts: ActivationCounts) -> None:
    """Share of all activations that the least active part of the queries has; the diagonal is equality."""
    axes.plot([0, 100], [0, 100], color="#888888", linewidth=1, linestyle="--", label="all equal: Gini 0")
    for name, words in DEFINITIONS.items():
        ascending = np.concatenate([[0.0], np.cumsum(np.sort(counts.rates(name)))])
        share = 100 * ascending / (ascending[-1] or 1.0)
        label = f"{words}: Gini {gini(counts.rates(name)):.2f}"
        axes.plot(np.linspace(0, 100, len(share)), share, color=DEFINITION_COLORS[name], label=label)
    axes.set(xlabel="queries, least active first, in per cent", ylabel="their part of all activations, in per cent")
    axes.set(xlim=(0, 100), ylim=(0, 103))
    axes.set_title("inequality: the deeper a curve hangs, the fewer queries do the work", fontsize=10)
    axes.legend(fontsize=9, loc="upper left")


def _draw_layers(axes: Axes, counts: ActivationCounts) -> None:
    rows = counts.layer_rates()
    layer = np.arange(1, len(rows) + 1)
    for values, color, words in (
        ([gini(row) for row in rows], DEFINITION_COLORS["matched"], "Gini of the matched counts"),
        ([active_fraction(row) for row in rows], "#56B4E9", "share of the queries that were matched at all"),
    ):
        axes.plot(layer, values, marker="o", color=color, label=words)
    axes.set(xlabel="decoder layer", ylim=(0, 1.03), xticks=layer, xlim=(0.5, len(rows) + 0.5))
    axes.set_title("queries that answer for an object, layer by layer", fontsize=10)
    axes.legend(fontsize=9, loc="center left")


def _draw_levels(axes: Axes, counts: ActivationCounts) -> None:
    axes.set_title("active part of the queries, by the level of their proposal", fontsize=10)
    if not counts.strides:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "its queries start at learned places, not at a level", ha="center", color="#666666")
        return
    place = np.arange(len(counts.strides))
    for number, name in enumerate(DEFINITIONS):
        bars = axes.bar(place + 0.27 * (number - 1), 100 * counts.level_share(name), 0.25)
        for bar, active in zip(bars, counts.active_by_level[name].tolist(), strict=True):
            bar.set_color(DEFINITION_COLORS[name])
            axes.text(bar.get_x() + bar.get_width() / 2, bar.get_height(), active, ha="center", va="bottom", fontsize=8)
    titles = [
        f"stride {stride} px\n{how_many(int(queries), 'query')}"
        for stride, queries in zip(counts.strides, counts.queries_by_level, strict=True)
    ]
    axes.set_xticks(place, titles, fontsize=9)
    axes.set_ylabel("active, in per cent (number: how many)")
    axes.margins(y=0.12)
