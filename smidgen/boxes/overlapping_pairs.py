"""Pairs of boxes that overlap, out of very many, without the table of all pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from smidgen.boxes.overlap import aligned_iou

MOST_CANDIDATES = 500_000
"""Pairs looked at at a time: about 160 MB where boxes are doubles."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows of boxes, first < second, with the IoU of each pair."""

    first: Int[Tensor, " p"]
    second: Int[Tensor, " p"]
    iou: Float[Tensor, " p"]

    def __getitem__(self, which: Bool[Tensor, " p"] | Int[Tensor, " k"]) -> Pairs:
        return Pairs(self.first[which], self.second[which], self.iou[which])

    def __len__(self) -> int:
        return len(self.first)


def overlapping_pairs(
    boxes_xyxy: Float[Tensor, "n 4"],
    groups: Int[Tensor, " n"],
    least_iou: float,
    extent_px: float,
    margin_px: float = 0.0,
) -> Pairs:
    """Pairs of one group with at least this IoU, above 0. extent_px: boxes lie in [0, extent_px] along x.

    margin_px: added on all sides where the IoU is held against `least_iou` (not in what is returned): boxes of a few
    pixels that are a pixel off are alike, too, and for larger ones it changes next to nothing.

    Boxes are swept from left to right, group by group: only those that share some of x are compared, a bounded number
    at a time.
    """
    # A strip of the axis for each group, wide enough that no two touch.
    left, right = ((boxes_xyxy[:, side].double() + groups.double() * (extent_px + 1.0)) for side in (0, 2))
    order = left.argsort(stable=True)
    following = torch.searchsorted(left[order], right[order].contiguous()) - torch.arange(len(order)) - 1
    following = following.clamp(min=0)
    parts = [Pairs(order[:0], order[:0], boxes_xyxy.new_zeros(0))]
    for rows in _in_portions(following):
        first = torch.repeat_interleave(rows, following[rows])
        second = first + 1 + _counted_up(following[rows])
        parts.append(_alike(boxes_xyxy, order[first], order[second], least_iou, margin_px))
    return Pairs(*(torch.cat([getattr(part, name) for part in parts]) for name in ("first", "second", "iou")))


def _in_portions(following: Int[Tensor, " n"]) -> tuple[Tensor, ...]:
    """Consecutive rows whose candidates are about MOST_CANDIDATES, or one row that has more."""
    portion = following.cumsum(0) // MOST_CANDIDATES
    sizes = torch.unique_consecutive(portion, return_counts=True)[1]
    return torch.arange(len(following)).split(sizes.tolist()) if len(following) else ()


def _counted_up(counts: Int[Tensor, " n"]) -> Int[Tensor, " total"]:
    """0 .. count - 1 for each count, one after the other."""
    ends = counts.cumsum(0)
    return torch.arange(int(counts.sum())) - torch.repeat_interleave(ends - counts, counts)


def _alike(boxes_xyxy: Tensor, one: Tensor, other: Tensor, least_iou: float, margin_px: float) -> Pairs:
    first, second = boxes_xyxy[one], boxes_xyxy[other]
    margin = first.new_tensor([-margin_px, -margin_px, margin_px, margin_px])
    iou = aligned_iou(first, second)
    alike = (aligned_iou(first + margin, second + margin) >= least_iou) & (iou > 0)
    one, other = one[alike], other[alike]
    return Pairs(torch.minimum(one, other), torch.maximum(one, other), iou[alike])
