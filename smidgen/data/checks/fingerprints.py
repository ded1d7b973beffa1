"""What is kept of an image to recognize it again: a hash of its bytes, a 64-bit difference hash, a small gray copy.

Difference hash: N. Krawetz, "Kind of Like That", 2013 (whether brightness rises from each cell of a 9 x 8 grid to its
right neighbor). It finds candidates; the gray copy of 16 x 16 cells decides, since pictures with much plain ground
share many bits by chance.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

# Both grids divide this size: 9 x 8 cells of 16 px, 16 x 16 cells of 9 x 8 px.
_COMMON_WH = (144, 128)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """content: hash of the file's bytes. gradient: difference hash. thumbnail: mean gray per cell, 0..255."""

    content: bytes
    gradient: int
    thumbnail: UInt8[np.ndarray, "16 16"]


def fingerprint(content: bytes, picture: Image.Image) -> Fingerprint:
    """Of a file and the picture decoded from it."""
    # reducing_gap: whole factors first, which is much faster.
    reduced = _gray(picture).resize(_COMMON_WH, Image.Resampling.BOX, reducing_gap=1.0)
    small = np.asarray(reduced, dtype=np.float32)
    grid = small.reshape(8, 16, 9, 16).mean(axis=(1, 3))
    cells = small.reshape(16, 8, 16, 9).mean(axis=(1, 3))
    rises = np.packbits(grid[:, 1:] > grid[:, :-1])
    return Fingerprint(
        content=hashlib.blake2b(content, digest_size=16).digest(),
        gradient=int.from_bytes(rises.tobytes(), "big"),
        thumbnail=np.round(cells).astype(np.uint8),
    )


def _gray(picture: Image.Image) -> Image.Image:
    """8-bit gray; Pillow would cut 16-bit values off at 255."""
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture, dtype=np.float32)
        scaled = np.clip(np.nan_to_num(values) / 257.0, 0, 255)
        return Image.fromarray(scaled.astype(np.uint8))
    return picture.convert("L")
