"""A guide's threshold, chosen by what it may lose: the highest that keeps a share of the objects' tiles.

The same idea as for a cascade inside a network (`smidgen.analysis.cascade_threshold`): an object survives a threshold
where the tile that answers for it is looked at, so one look from afar at each image answers for all thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from smidgen.data import DetectionDataset
from smidgen.data.windows import open_windows
from smidgen.inference.guided_tiling import Guide, GuidedTiles
from smidgen.inference.tiling.settings import Tiling

_DIGITS = 6


@dataclass(frozen=True, slots=True)
class GuidePoint:
    """recall: share of the objects whose tile is looked at. share: of the tiles that are looked at."""

    threshold: float
    recall: float
    share: float


@dataclass(frozen=True, slots=True)
class GuideChoice:
    """The highest threshold that keeps the wanted recall. objects, tiles: how many there were. curve: a point for each
    object that a higher threshold would lose, thresholds ascending.
    """

    threshold: float
    recall: float
    share: float
    objects: int
    tiles: int
    curve: tuple[GuidePoint, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; the curve as lists of threshold, recall and share."""
        columns = {name: [getattr(point, name) for point in self.curve] for name in ("threshold", "recall", "share")}
        values = {name: getattr(self, name) for name in ("threshold", "recall", "share", "objects", "tiles")}
        return {**values, "curve": columns}

    def applied_to(self, guide: Guide) -> Guide:
        """The guide with this threshold."""
        return replace(guide, threshold=self.threshold)


@dataclass(frozen=True, slots=True)
class GuideScores:
    """Of each object of a data set the score of the tile that answers for it, and of each tile its own."""

    objects: Float[Tensor, " n"]
    tiles: Float[Tensor, " m"]

    def choose(self, recall: float) -> GuideChoice:
        """ValueError for a recall outside (0, 1] and where there is no object."""
        if not 0 < recall <= 1:
            raise ValueError(f"expected a recall above 0 and at most 1, got {recall}")
        if not len(self.objects):
            raise ValueError("expected images with objects to choose the guide's threshold on, got none")
        curve = tuple(self._point(_rounded_down(score)) for score in self.objects.unique().tolist())
        best = [point for point in curve if point.recall >= recall][-1]
        return GuideChoice(best.threshold, best.recall, best.share, len(self.objects), len(self.tiles), curve)

    def _point(self, threshold: float) -> GuidePoint:
        kept, looked_at = self.objects >= threshold, self.tiles >= threshold
        return GuidePoint(threshold, kept.double().mean().item(), looked_at.double().mean().item())


def guide_scores(
    tiles: GuidedTiles,
    dataset: DetectionDataset,
    tiling: Tiling,
    progress: Callable[[int, int], None] | None = None,
) -> GuideScores:
    """Look from afar at every image once. progress: called with the number of images done and of all.

    Raises UnreadableImageError.
    """
    of_objects, of_tiles = [torch.zeros(0)], [torch.zeros(0)]
    for number, record in enumerate(dataset.records, start=1):
        with open_windows(record.file, tiling.pixels, tiling.memory_bytes) as reader:
            plan = tiling.plan(reader.size_hw)
            scores = tiles.scores(reader, plan)
        of_tiles.append(scores)
        of_objects.append(scores[plan.owners(torch.tensor(record.boxes_xyxy))])
        if progress is not None:
            progress(number, len(dataset))
    return GuideScores(torch.cat(of_objects), torch.cat(of_tiles))


def _rounded_down(score: float) -> float:
    return math.floor(score * 10**_DIGITS) / 10**_DIGITS
