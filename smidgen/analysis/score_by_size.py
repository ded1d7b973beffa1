"""How sure a detector is of small objects: the mean score of its detections, by the size of what they show.

Cross-DINO, figure 3: detections of at least 0.4, binned by object size. The size is that of the detected box: a
detection need not lie on any object. A detection is a pair of a query and a class, as in the readout of the family.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from smidgen.analysis.observation import Observation
from smidgen.analysis.panels import Picture, how_many
from smidgen.analysis.query_activation import scores_of
from smidgen.analysis.query_origins import SIZE_EDGES_PX, SIZE_NAMES
from smidgen.boxes import full_precision

LEAST_SCORE = 0.4
SCORE_COLOR = "#0072B2"


@dataclass(frozen=True, slots=True)
class ScoresBySize:
    """Detections and the sum of their scores, by size of the box; those of several batches add up.

    least_score: a detection counts from this score on. images: how many were counted.
    """

    least_score: float
    images: int
    detections: npt.NDArray[np.int64]
    score_sum: npt.NDArray[np.float64]

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """Mean score by size, NaN where there is no detection of the size."""
        mean: npt.NDArray[np.float64] = np.where(
            self.detections > 0, self.score_sum / np.maximum(self.detections, 1), np.nan
        )
        return mean

    def __add__(self, other: ScoresBySize) -> ScoresBySize:
        if self.least_score != other.least_score:
            raise ValueError(
                f"expected scores from the same least score on to add, got {self.least_score} and {other.least_score}"
            )
        return ScoresBySize(
            self.least_score,
            self.images + other.images,
            self.detections + other.detections,
            self.score_sum + other.score_sum,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values; a size without detections has the mean score None."""
        rows = zip(SIZE_NAMES, self.detections.tolist(), self.mean.tolist(), strict=True)
        return {
            "least_score": self.least_score,
            "images": self.images,
            "by_size": [
                {"size": name, "detections": number, "mean_score": mean if number else None}
                for name, number, mean in rows
            ],
        }


def scores_by_size(observation: Observation, least_score: float = LEAST_SCORE) -> ScoresBySize:
    """Count one batch; sizes are square roots of areas in pixels of the network's input."""
    scores = scores_of(observation.output.final)
    size = _size_bin(observation)[..., None].expand_as(scores)
    sure = scores >= least_score
    chosen, weights = size[sure], scores[sure].double()
    return ScoresBySize(
        least_score,
        len(observation),
        torch.bincount(chosen, minlength=len(SIZE_NAMES)).cpu().numpy(),
        torch.bincount(chosen, weights, minlength=len(SIZE_NAMES)).cpu().numpy(),
    )


def score_by_size_chart(scores: ScoresBySize) -> Picture:
    """Bars of the mean score by size, with the number of detections in each.

    data: `ScoresBySize.to_json()`.
    """
    figure = Figure(figsize=(10.0, 4.6), layout="constrained")
    figure.suptitle(
        f"How sure its detections of at least {scores.least_score:g} are, by size, "
        f"in {how_many(scores.images, 'image')}",
        fontsize=13,
    )
    _draw_bars(figure.subplots(), scores)
    return Picture(figure, scores.to_json())


def _size_bin(observation: Observation) -> Int[Tensor, "B Q"]:
    size_wh = full_precision(observation.output.final.boxes_cxcywh[..., 2:])
    pixels_wh = size_wh.new_tensor([[width, height] for height, width in observation.images.sizes])
    sides: Float[Tensor, "B Q"] = (size_wh * pixels_wh[:, None]).prod(dim=-1).sqrt()
    return torch.bucketize(sides, torch.tensor(SIZE_EDGES_PX, device=sides.device), right=True)


def _draw_bars(axes: Axes, scores: ScoresBySize) -> None:
    place = list(range(len(SIZE_NAMES)))
    axes.bar(place, np.nan_to_num(scores.mean), 0.6, color=SCORE_COLOR)
    for x, number, mean in zip(place, scores.detections.tolist(), scores.mean.tolist(), strict=True):
        words = f"{mean:.2f}\n{how_many(number, 'detection')}" if number else "none"
        axes.text(x, mean + 0.01 if number else 0.01, words, ha="center", va="bottom", fontsize=9)
    axes.axhline(scores.least_score, color="#888888", linewidth=0.8, linestyle="--")
    axes.set_xticks(place, SIZE_NAMES)
    axes.set(ylim=(0, 1.08), ylabel="mean score", xlabel="side of the detected box in pixels of the network's input")
    axes.spines[["top", "right"]].set_visible(False)
