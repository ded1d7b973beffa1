"""Where overlapping windows lie on an image, and what of its annotations is in each.

The rules are those of SODA-D's preparation, whose source and differences stand in `smidgen.data.soda_tiling`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from smidgen.boxes.tiles import starts_px
from smidgen.data.dataset import ANY_CLASS, Record
from smidgen.data.geometry import Window

_MARGIN_PX = 5


@dataclass(frozen=True, slots=True)
class Tiling:
    """window_px, stride_px: side of the windows and step from one to the next, in pixels of the image on disk.
    resized_px: side of a window as it is written (None = as it is cut). ignored_share: an object of which this share of
    its area or less lies in a window is ignored there. only_labeled: splits whose windows without annotations are
    dropped and whose images are cut only as far as annotations reach."""

    window_px: int = 800
    stride_px: int = 650
    resized_px: int | None = None
    ignored_share: float = 0.4
    only_labeled: tuple[str, ...] = ("train",)

    def __post_init__(self) -> None:
        sides = (self.window_px, self.stride_px, 1 if self.resized_px is None else self.resized_px)
        if min(sides) < 1 or self.stride_px > self.window_px:
            raise ValueError(
                f"expected windows of at least 1 px and a stride of at most the window, got {self.window_px} px every "
                f"{self.stride_px} px, resized to {self.resized_px}; change the tiling"
            )

    @property
    def scale(self) -> float:
        """Pixels of a written window per pixel of its image."""
        return 1.0 if self.resized_px is None else self.resized_px / self.window_px


def windows(record: Record, tiling: Tiling, only_labeled: bool = False) -> list[Window]:
    """The windows of an image in the tool's order. only_labeled: of the part that annotations reach."""
    height, width = _reach(record) if only_labeled else record.size_hw
    side = tiling.window_px
    return [
        Window(top, left, side, side)
        for left in starts_px(width, side, tiling.stride_px)
        for top in starts_px(height, side, tiling.stride_px)
    ]


def _reach(record: Record) -> tuple[int, int]:
    """(height, width) up to the outermost annotation and a margin."""
    boxes = np.concatenate([np.zeros((1, 4)), record.boxes_xyxy, record.ignore_xyxy]).astype(np.int64)
    right, bottom = (boxes[:, 2:].max(axis=0) + _MARGIN_PX).tolist()
    return min(record.size_hw[0], bottom), min(record.size_hw[1], right)


def window_record(record: Record, window: Window, tiling: Tiling) -> Record:
    """What is annotated in a window, in its written pixels. Regions about any class are gone: they are painted."""
    boxes, shares = clipped(record.boxes_xyxy, window)
    kept, ignored = shares > tiling.ignored_share, (shares > 0) & (shares <= tiling.ignored_share)
    about = record.region_labels
    regions, region_shares = clipped(record.ignore_xyxy, window)
    regions_kept = (region_shares > 0) & (about != ANY_CLASS)
    side = tiling.resized_px or tiling.window_px
    return Record(
        file=record.file,
        image_id=record.image_id,
        size_hw=(side, side),
        boxes_xyxy=(boxes[kept] * tiling.scale).astype(np.float32),
        labels=record.labels[kept],
        ignore_xyxy=(np.concatenate([regions[regions_kept], boxes[ignored]]) * tiling.scale).astype(np.float32),
        ignore_labels=np.concatenate([about[regions_kept], record.labels[ignored]]),
    )


def clipped(
    boxes_xyxy: npt.NDArray[np.float32], window: Window
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Boxes in the window's pixels, clipped to it, and the share of their area that is inside."""
    boxes = boxes_xyxy.astype(np.float64)
    offset, limits = np.array([window.left, window.top] * 2), np.array([window.width, window.height] * 2)
    clipped = np.clip(boxes - offset, 0, limits)
    shares: npt.NDArray[np.float64] = (clipped[:, 2:] - clipped[:, :2]).prod(axis=1)
    return clipped, shares / np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), np.finfo(np.float64).tiny)
