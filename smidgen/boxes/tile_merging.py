"""Detections of overlapping tiles put together again: every object once, seams no worse than interiors.

The tile whose core holds a box's center answers for it (`smidgen.boxes.tiles`); an object no larger than the overlap
is seen whole there. What tiles say about one object is found out where their windows overlap, one to one
(`view_matching`), and then

- the whole box speaks for the object rather than one that a window's border cut, then the one whose tile answers for
  it, then the better score;
- the object is kept where its own tile saw it, or two tiles saw it whole: a center that falls on the other side of a
  core's border for either tile is neither lost nor counted twice;
- a box cut by a border is dropped where another view has the whole object, and joined with the neighbors' pieces where
  nobody has: what is larger than the overlap can still be seen whole up to about twice the overlap.

With a detector that finds every object, this gives exactly the objects (tests/boxes/test_tile_merging.py).
Fusion is Solovyev et al., "Weighted boxes fusion", 2021; soft is Bodla et al., "Soft-NMS", ICCV 2017, equation of the
Gaussian, both within the detections of one object.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from smidgen.boxes.overlap import aligned_iou, area
from smidgen.boxes.overlapping_pairs import overlapping_pairs
from smidgen.boxes.view_matching import leaders, one_to_one, ranked

MergeKind = Literal["nms", "soft", "fusion", "none"]

TOLERANCE_PX = 2.0
"""How far the sides of a detected box are off, of which boxes of 5 px and their IoU are not to depend."""
SOFT_SIGMA = 0.5
_MOST_COMPARED = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Merging:
    """kind: what becomes of several detections of one object. "nms": one stays; "soft": those of tiles that answer for
    it stay with scores lowered by their overlap with it; "fusion": their mean, weighted by score; "none": all that a
    tile answers for stay. agnostic: whether detections of different classes can be one object. iou: from which on
    detections of different views may be one object.
    """

    kind: MergeKind = "nms"
    agnostic: bool = False
    iou: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in ("nms", "soft", "fusion", "none"):
            raise ValueError(f"expected nms, soft, fusion or none, got {self.kind!r}; change --merge")
        if not 0 < self.iou <= 1:
            raise ValueError(f"expected an IoU in (0, 1] from which boxes are merged, got {self.iou}")


@dataclass(frozen=True, slots=True)
class SeenBoxes:
    """What all views of one image detected. boxes_xyxy: pixels of the image, inside their windows. views: number of
    each box's view; windows_xyxy: what that view sees. owned: whether that view answers for the box.
    """

    boxes_xyxy: Float[Tensor, "n 4"]
    scores: Float[Tensor, " n"]
    labels: Int[Tensor, " n"]
    views: Int[Tensor, " n"]
    windows_xyxy: Float[Tensor, "n 4"]
    owned: Bool[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, which: Bool[Tensor, " n"] | Int[Tensor, " k"]) -> SeenBoxes:
        return SeenBoxes(*(getattr(self, field.name)[which] for field in fields(self)))

    def cut(self, image_hw: tuple[int, int], tolerance_px: float = TOLERANCE_PX) -> Bool[Tensor, " n"]:
        """Whether a box reaches a border of its window that is not the image's."""
        height, width = image_hw
        first, last = self.boxes_xyxy.double().chunk(2, dim=1)
        window_first, window_last = self.windows_xyxy.double().chunk(2, dim=1)
        before = (window_first > 0) & (first <= window_first + tolerance_px)
        after = (window_last < window_last.new_tensor([width, height])) & (last >= window_last - tolerance_px)
        return (before | after).any(1)


@dataclass(frozen=True, slots=True)
class MergedBoxes:
    """One row per object, best first. cut: a part of an object of which no view saw more."""

    boxes_xyxy: Float[Tensor, "m 4"]
    scores: Float[Tensor, " m"]
    labels: Int[Tensor, " m"]
    cut: Bool[Tensor, " m"]

    def above(self, score: float) -> MergedBoxes:
        """Those with at least this score."""
        high = self.scores >= score
        return MergedBoxes(self.boxes_xyxy[high], self.scores[high], self.labels[high], self.cut[high])


def merge_views(
    seen: SeenBoxes,
    image_hw: tuple[int, int],
    merging: Merging | None = None,
    *,
    num_passes: int = 1,
    tolerance_px: float = TOLERANCE_PX,
) -> MergedBoxes:
    """The objects of an image. num_passes: how often each tile was looked at (flips, scales); fusion lowers the score
    of what fewer passes found. tolerance_px: a box that ends this near to its window's border counts as cut by it, and
    boxes that are alike with so much around them may be one object.
    """
    merging = merging or Merging()
    cut = seen.cut(image_hw, tolerance_px)
    if merging.kind == "none":
        return _best_first(seen, seen.owned, cut)
    group = _groups(seen, cut, merging, image_hw[1], tolerance_px)
    kept = _kept_groups(seen, cut, group)
    leads = group == torch.arange(len(seen))
    merged = replace(seen, boxes_xyxy=_joined(seen.boxes_xyxy, group, cut & leads))
    if merging.kind == "fusion":
        merged = _fused(merged, group, cut, num_passes)
    if merging.kind == "soft":
        merged = replace(merged, scores=_lowered(merged, group))
        leads = leads | (seen.owned & ~cut)
    stays = kept & leads
    hidden = _seen_whole_elsewhere(merged, seen.windows_xyxy, stays, cut, merging)
    return _best_first(merged, stays & ~hidden, cut)


def _groups(seen: SeenBoxes, cut: Tensor, merging: Merging, width: int, margin_px: float) -> Int[Tensor, " n"]:
    """For each box the row of the box that speaks for its object."""
    classes = torch.zeros_like(seen.labels) if merging.agnostic else seen.labels
    pairs = overlapping_pairs(seen.boxes_xyxy, classes, merging.iou, float(width), margin_px)
    return leaders(one_to_one(pairs, seen.views), ranked(~cut, seen.owned, seen.scores))


def _kept_groups(seen: SeenBoxes, cut: Tensor, group: Tensor) -> Bool[Tensor, " n"]:
    """For each box whether its object is kept: its tile saw it, or two views saw it whole."""
    owned = torch.zeros(len(seen), dtype=torch.int64).index_add_(0, group, seen.owned.long())
    whole = torch.zeros(len(seen), dtype=torch.int64).index_add_(0, group, (~cut).long())
    return ((owned > 0) | (whole > 1))[group]


def _joined(boxes_xyxy: Tensor, group: Tensor, pieces: Tensor) -> Float[Tensor, "n 4"]:
    """What speaks for an object of which there are pieces only spans all of them."""
    rows = group[:, None].expand(-1, 2)
    first = boxes_xyxy[:, :2].scatter_reduce(0, rows, boxes_xyxy[:, :2], "amin")
    last = boxes_xyxy[:, 2:].scatter_reduce(0, rows, boxes_xyxy[:, 2:], "amax")
    return torch.where(pieces[:, None], torch.cat([first, last], dim=1), boxes_xyxy)


def _fused(seen: SeenBoxes, group: Tensor, cut: Tensor, num_passes: int) -> SeenBoxes:
    """Mean box of the whole ones of each object, weighted by score; mean score, less where passes missed it."""
    counted = (~cut).to(seen.boxes_xyxy.dtype)
    weights = seen.scores.to(counted.dtype) * counted
    number = torch.zeros_like(counted).index_add_(0, group, counted)
    total = torch.zeros_like(counted).index_add_(0, group, weights)
    boxes = torch.zeros_like(seen.boxes_xyxy).index_add_(0, group, weights[:, None] * seen.boxes_xyxy)
    several = number > 1
    mean = torch.where((several & (total > 0))[:, None], boxes / total.clamp(min=1e-12)[:, None], seen.boxes_xyxy)
    score = torch.where(several, total / number.clamp(min=1), seen.scores.to(total.dtype))
    looks = num_passes * _windows_of_each(seen.windows_xyxy, group, ~cut).clamp(min=1)
    found_by = (number.clamp(min=1) / looks).clamp(max=1)
    return replace(seen, boxes_xyxy=mean, scores=(score * found_by).to(seen.scores.dtype))


def _windows_of_each(windows_xyxy: Tensor, group: Tensor, counted: Tensor) -> Int[Tensor, " n"]:
    """In the row of each group's leader, how many windows the counted members were seen in."""
    members = torch.cat([group[counted, None].double(), windows_xyxy[counted].double()], dim=1)
    return torch.bincount(members.unique(dim=0)[:, 0].long(), minlength=len(group))


def _lowered(seen: SeenBoxes, group: Tensor) -> Float[Tensor, " n"]:
    """Scores times exp(-IoU^2 / sigma) with the box that speaks for the object, whose own score stays."""
    iou = aligned_iou(seen.boxes_xyxy, seen.boxes_xyxy[group])
    leads = group == torch.arange(len(seen))
    return torch.where(leads, seen.scores, seen.scores * (-(iou**2) / SOFT_SIGMA).exp().to(seen.scores.dtype))


def _seen_whole_elsewhere(
    seen: SeenBoxes, windows_xyxy: Tensor, stays: Tensor, cut: Tensor, merging: Merging
) -> Bool[Tensor, " n"]:
    """Cut boxes that are what their window shows of a whole box of another view."""
    hidden = torch.zeros_like(stays)
    pieces, wholes = torch.nonzero(stays & cut)[:, 0], torch.nonzero(stays & ~cut)[:, 0]
    for some in pieces.split(max(1, _MOST_COMPARED // max(1, len(wholes)))):
        window = windows_xyxy[some][:, None].to(seen.boxes_xyxy.dtype)
        whole = seen.boxes_xyxy[wholes][None]
        shown = torch.cat(
            [torch.maximum(whole[..., :2], window[..., :2]), torch.minimum(whole[..., 2:], window[..., 2:])], dim=-1
        )
        shown = torch.cat([shown[..., :2], torch.maximum(shown[..., :2], shown[..., 2:])], dim=-1)
        same = aligned_iou(shown, seen.boxes_xyxy[some][:, None].expand_as(shown)) >= merging.iou
        same &= area(whole) > area(seen.boxes_xyxy[some])[:, None]
        same &= seen.views[some][:, None] != seen.views[wholes][None]
        if not merging.agnostic:
            same &= seen.labels[some][:, None] == seen.labels[wholes][None]
        hidden[some] = same.any(1)
    return hidden


def _best_first(seen: SeenBoxes, chosen: Tensor, cut: Tensor) -> MergedBoxes:
    rows = torch.nonzero(chosen)[:, 0]
    rows = rows[seen.scores[rows].argsort(descending=True, stable=True)]
    return MergedBoxes(seen.boxes_xyxy[rows], seen.scores[rows], seen.labels[rows], cut[rows])
