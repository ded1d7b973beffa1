"""Regions of images that a second stage looks at again: where they are, what is true of them, what is said of them."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Regions:
    """Boxes in xyxy pixels of the network input, of a whole batch of `batch` images; image: of each, ascending."""

    boxes_xyxy: Float[Tensor, "R 4"]
    image: Int[Tensor, " R"]
    batch: int

    def __len__(self) -> int:
        return self.image.shape[0]


@dataclass(frozen=True, slots=True)
class RegionTruth:
    """What each region shows. labels: class index, K (the number of classes) where it shows background. boxes_xyxy:
    of the object, in the frame of the regions; without meaning at background.
    """

    labels: Int[Tensor, " R"]
    boxes_xyxy: Float[Tensor, "R 4"]


@dataclass(frozen=True, slots=True)
class RegionAnswers:
    """Evidence of a second stage. logits: softmax over K classes and background (last). deltas: of each class's box
    to the region. truth: in training, of the regions that were sampled for it.
    """

    regions: Regions
    logits: Float[Tensor, "R classes"]
    deltas: Float[Tensor, "R K 4"]
    truth: RegionTruth | None = None
