"""The cascade's threshold, chosen by what it may lose: the highest that keeps a share of the small objects.

Not in QueryDet (CVPR 2022), which takes 0.15 in its tables and 0.12 in its code for every data set. An object survives
a threshold where one of its cells on the query level that is responsible for it, and every cell above that one up to
the start of the cascade, scores higher: the least score of such a path, largest over the object's cells, is the
object's own highest threshold. The same holds of computed cells, whose path ends at a key at most `context` cells
away. So one dense pass of the query head over each image answers for all thresholds. (With little context the
cascade's own scores on finer levels differ slightly from the dense ones; `smidgen.analysis.cascade_tradeoff` measures
the cascade itself. A budget is not looked at.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.analysis.observation import with_model_labels
from smidgen.boxes import area, full_precision, xyxy_to_cxcywh
from smidgen.boxes.anchors import cell_centers
from smidgen.data import DetectionDataset, evaluation_loader
from smidgen.evaluation.model_state import device_of, evaluating
from smidgen.inference.query_scores import NOWHERE, QueryScores, query_scores, taught_maps, why_no_query_scores
from smidgen.losses.small_object_map import SmallObjectLoss
from smidgen.structures import Target
from smidgen.tokens.cascade_sparse_query import CascadeSparseQuery

THRESHOLDS = (0.0, *(round(step * 1e-4, 4) for step in range(1, 100)), *(step / 1000 for step in range(10, 1000)))


@dataclass(frozen=True, slots=True)
class ThresholdPoint:
    """recall: share of the small objects that survive. share: of the sparse levels' cells (without padding) that are
    computed, context included.
    """

    threshold: float
    recall: float
    share: float


@dataclass(frozen=True, slots=True)
class ThresholdChoice:
    """The highest tried threshold that keeps the wanted recall; `model.cascade.threshold` takes it.

    objects: how many small ones were looked at. curve: all tried thresholds, ascending.
    """

    threshold: float
    recall: float
    share: float
    objects: int
    curve: tuple[ThresholdPoint, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; the curve as lists of threshold, recall and share."""
        columns = {name: [getattr(point, name) for point in self.curve] for name in ("threshold", "recall", "share")}
        return {
            "threshold": self.threshold,
            "recall": self.recall,
            "share": self.share,
            "objects": self.objects,
            "curve": columns,
        }


@torch.inference_mode()
def threshold_for_recall(
    model: nn.Module,
    dataset: DetectionDataset,
    recall: float = 0.99,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    batch_size: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> ThresholdChoice:
    """Look at every image once. Small is an object that the start level of the cascade was taught to point at.

    thresholds: tried, ascending. progress: called with the number of images done and of all. Raises ValueError for a
    model without a cascade, for a recall outside (0, 1], where there is no small object, and where no tried threshold
    keeps the recall.
    """
    if not 0 < recall <= 1:
        raise ValueError(f"expected a recall above 0 and at most 1, got {recall}")
    cascade, taught, counts, done = cascade_of(model), taught_maps(model), _Counts(thresholds), 0
    preprocessing: Any = model.config.preprocessing  # type: ignore[union-attr]
    with evaluating(model):
        for images, targets in evaluation_loader(dataset, preprocessing=preprocessing, batch_size=batch_size):
            maps = query_scores(model, images.to(device_of(model)))
            paths = path_scores(maps, cascade.start)
            for image, target in enumerate(with_model_labels(targets, model, dataset)):
                counts.add_objects(object_scores(paths, maps.strides, target.to(device_of(model)), taught, image))
            counts.add_cells(computed_scores(maps, paths, cascade.context))
            done += len(images)
            if progress is not None:
                progress(done, len(dataset))
    return _chosen(counts.curve(), recall, counts.num_objects)


def cascade_of(model: nn.Module) -> CascadeSparseQuery:
    """The model's cascade; ValueError where everything is computed."""
    reason = why_no_query_scores(model)
    if reason is not None:
        raise ValueError(f"expected a model with a cascade, but {reason}")
    cascade: CascadeSparseQuery | None = model.querying.cascade  # type: ignore[union-attr, assignment]
    if cascade is None or cascade.start == 0:
        raise ValueError("expected a model with a cascade, got one that computes all cells; set model.cascade")
    return cascade


def path_scores(maps: QueryScores, start: int) -> dict[int, Float[Tensor, "B _ _"]]:
    """By query level, of each cell the least score on its way down from the start level: the cell is a query of every
    threshold below it.
    """
    paths = {start: maps.scores[start]}
    for level in reversed(range(1, start)):
        paths[level] = torch.minimum(maps.scores[level], _of_parents(paths[level + 1], maps.shapes[level]))
    return paths


def computed_scores(maps: QueryScores, paths: dict[int, Float[Tensor, "B _ _"]], context: int) -> Float[Tensor, " n"]:
    """Of each cell of the sparse levels that is not padded, the value below which a threshold has it computed."""
    found = []
    for level, path in paths.items():
        keys = maps.visible(level - 1, _of_parents(path, maps.shapes[level - 1]))
        near = F.max_pool2d(keys[:, None], 2 * context + 1, 1, context)[:, 0]
        found.append(near.flatten() if maps.padding is None else near[~maps.padding[level - 1]])
    return torch.cat(found)


def object_scores(
    paths: dict[int, Float[Tensor, "B _ _"]],
    strides: Sequence[int],
    target: Target,
    taught: SmallObjectLoss,
    image: int,
) -> Float[Tensor, " n"]:
    """Of each small object the value below which a threshold keeps it.

    Responsible is the finest query level to which the object is small. Its cells are those within the reach that the
    map was taught (a nearer object may claim one: its children are computed all the same), and the one that holds its
    center.
    """
    sizes = area(full_precision(target.boxes_xyxy)).clamp(min=0).sqrt()
    found, left = [], torch.ones_like(sizes, dtype=torch.bool)
    for level in sorted(paths):
        limit = taught.limit_in_strides * strides[level]
        here = left & (sizes < limit)
        reach = (sizes if taught.radius == "object" else torch.full_like(sizes, limit)) * taught.coefficient
        found.append(_best_cell(paths[level][image], target.boxes_xyxy[here], reach[here], strides[level]))
        left = left & ~here
    return torch.cat(found)


def _best_cell(
    path: Float[Tensor, "H W"], boxes_xyxy: Float[Tensor, "M 4"], reach_px: Float[Tensor, " M"], stride: int
) -> Float[Tensor, " M"]:
    shape = (path.shape[0], path.shape[1])
    points = cell_centers(shape, stride, device=path.device)
    offset = (points[:, None] - xyxy_to_cxcywh(full_precision(boxes_xyxy))[:, :2]).abs()
    own = (offset.norm(dim=-1) < reach_px) | (offset <= stride / 2).all(dim=-1)
    return path.flatten()[:, None].masked_fill(~own, NOWHERE).amax(dim=0)


def _of_parents(coarse: Float[Tensor, "B H W"], shape: tuple[int, int]) -> Float[Tensor, "B rows columns"]:
    """At each cell the value of the cell above; odd sides have one column or row less than twice the coarse level's."""
    return coarse.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)[:, : shape[0], : shape[1]]


class _Counts:
    """How many values lie above each threshold, added up batch by batch."""

    def __init__(self, thresholds: Sequence[float]) -> None:
        if not thresholds or list(thresholds) != sorted(thresholds):
            raise ValueError(f"expected thresholds in ascending order, got {list(thresholds)[:8]}")
        self.thresholds = torch.tensor(thresholds)
        self.objects = torch.zeros(len(thresholds), dtype=torch.long)
        self.cells = torch.zeros(len(thresholds), dtype=torch.long)
        self.num_objects = self.num_cells = 0

    def add_objects(self, scores: Float[Tensor, " n"]) -> None:
        self.objects += self._above(scores)
        self.num_objects += len(scores)

    def add_cells(self, scores: Float[Tensor, " n"]) -> None:
        self.cells += self._above(scores)
        self.num_cells += len(scores)

    def curve(self) -> tuple[ThresholdPoint, ...]:
        if not self.num_objects:
            raise ValueError(
                "expected images with small objects to choose a threshold on, got none; name another split"
            )
        recalls, shares = self.objects / self.num_objects, self.cells / max(self.num_cells, 1)
        rows = zip(self.thresholds.double().tolist(), recalls.tolist(), shares.tolist(), strict=True)
        return tuple(ThresholdPoint(round(threshold, 6), recall, share) for threshold, recall, share in rows)

    def _above(self, scores: Float[Tensor, " n"]) -> Int[Tensor, " t"]:
        below = torch.bucketize(scores.cpu(), self.thresholds)  # number of thresholds strictly below each score
        return len(scores) - torch.bincount(below, minlength=len(self.thresholds) + 1)[:-1].cumsum(0)


def _chosen(curve: Sequence[ThresholdPoint], recall: float, objects: int) -> ThresholdChoice:
    enough = [point for point in curve if point.recall >= recall]
    if not enough:
        raise ValueError(
            f"expected one of the thresholds to keep {recall:.1%} of the small objects, but {curve[0].threshold:g} "
            f"keeps {curve[0].recall:.1%}; try lower thresholds or a lower recall"
        )
    best = enough[-1]
    return ThresholdChoice(best.threshold, best.recall, best.share, objects, tuple(curve))
