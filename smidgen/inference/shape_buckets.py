"""Canvases of few different sizes, so that a compiled network is compiled few times."""

from __future__ import annotations

from dataclasses import replace

from torch.nn import functional as F

from smidgen.structures import ImageBatch


def in_bucket(images: ImageBatch, multiple_px: int) -> ImageBatch:
    """The batch on a canvas whose sides are multiples of `multiple_px`, padded right and below; sizes stay.

    Like a larger batch mate, this changes what convolutions and group norms of the backbone see beyond the border.
    """
    if multiple_px < 1:
        raise ValueError(f"expected buckets of at least 1 px, got bucket_px={multiple_px}")
    missing = (0, -images.pixels.shape[-1] % multiple_px, 0, -images.pixels.shape[-2] % multiple_px)
    if not any(missing):
        return images
    return replace(images, pixels=F.pad(images.pixels, missing), padding=F.pad(images.padding, missing, value=True))
