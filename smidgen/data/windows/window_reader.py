"""What every reader of windows can do, however its format stores them."""

from __future__ import annotations

from typing import Protocol

from jaxtyping import UInt8
from torch import Tensor

WindowXYXY = tuple[int, int, int, int]


class WindowReader(Protocol):
    """An opened image. Both raise UnreadableImageError."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the image."""
        ...

    def read(self, window_xyxy: WindowXYXY) -> UInt8[Tensor, "3 h w"] | None:
        """The pixels of a window inside the image; None where it holds no data at all."""
        ...

    def reduced(self, size_hw: tuple[int, int]) -> UInt8[Tensor, "3 h w"]:
        """The whole image at this size."""
        ...
