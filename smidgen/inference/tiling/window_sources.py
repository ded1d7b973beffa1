"""Images that are looked at in tiles, wherever they lie: each has a name, and is opened when its turn comes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from jaxtyping import UInt8
from torch import Tensor

from smidgen.data.windows import DecodedImage, PixelRules, WindowReader, open_windows


class WindowSource(Protocol):
    """An image that can be opened."""

    @property
    def name(self) -> str:
        """What its detections shall call it."""
        ...

    def open(self, rules: PixelRules, most_bytes: int) -> AbstractContextManager[WindowReader]:
        """Its windows. most_bytes: what decoding it whole may take, where it must be. Raises UnreadableImageError."""
        ...


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file on this disk."""

    path: Path

    @property
    def name(self) -> str:
        """Its path."""
        return str(self.path)

    def open(self, rules: PixelRules, most_bytes: int) -> AbstractContextManager[WindowReader]:
        """By what reads its windows best."""
        return open_windows(self.path, rules, most_bytes)


@dataclass(frozen=True, slots=True)
class ImageInMemory:
    """RGB pixels, 0..255, such as a video's frame."""

    name: str
    pixels: UInt8[Tensor, "3 H W"]

    def open(self, rules: PixelRules, most_bytes: int) -> AbstractContextManager[WindowReader]:
        """Views of the pixels; they are RGB already and in memory, so that neither rules nor limit matter."""
        return nullcontext(DecodedImage(self.pixels))
