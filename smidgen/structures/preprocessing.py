"""How an image becomes network input: resize rule, normalization, padding. Part of every model's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The DETR recipe by default: short side 800 px unless the long side would pass 1333 px; ImageNet statistics.

    short_side, long_side: targets of the aspect-preserving resize in pixels (`resized_hw`).
    mean, std: per channel, of pixels scaled to [0, 1], in `channel_order`.
    pad_multiple: the sides of a batch's canvas are multiples of this many pixels.
    """

    short_side: int = 800
    long_side: int = 1333
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    channel_order: Literal["rgb", "bgr"] = "rgb"
    pad_multiple: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.short_side <= self.long_side:
            raise ValueError(
                f"expected 1 <= short_side <= long_side in the preprocessing, got short_side={self.short_side}, "
                f"long_side={self.long_side}; change model.preprocessing"
            )
        if self.pad_multiple < 1:
            raise ValueError(f"expected preprocessing.pad_multiple >= 1, got {self.pad_multiple}")

    def resized_hw(self, height: int, width: int) -> tuple[int, int]:
        """Network-input size of a `height` x `width` image: the largest that fits both targets, at least 1 px a
        side.
        """
        ratio = min(self.short_side / min(height, width), self.long_side / max(height, width))
        # int(x + 1e-9): 1333 / 2000 * 2000 must not become 1332.
        return max(1, int(height * ratio + 1e-9)), max(1, int(width * ratio + 1e-9))
