"""What one server takes on at most: bytes, pixels, images, requests and seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from PIL import Image

MEBIBYTE = 2**20
MEGAPIXEL = 10**6
FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Each limit is answered by a status code of its own: docs/serving.md has the table.

    body_mib: of one request. bodies_mib: of all requests that are being read and decoded. parts: images (or parts of a
    form) of one request. megapixels: of one image, told from its header before anything is decoded. formats: Pillow's
    decoders that may be tried. requests: at once. images: accepted and not answered yet, decoded or not.
    body_seconds: for a body to arrive. answer_seconds: from there to the answer. batch: images of one pass through
    the network; wait_ms: how long the first of them waits for others.
    """

    body_mib: float = 32.0
    bodies_mib: float = 256.0
    parts: int = 16
    megapixels: float = 50.0
    formats: tuple[str, ...] = FORMATS
    requests: int = 128
    images: int = 64
    body_seconds: float = 20.0
    answer_seconds: float = 30.0
    batch: int = 8
    wait_ms: float = 5.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("formats", "wait_ms") and not 0 < value < math.inf:
                raise ValueError(
                    f"expected a limit above 0 that is a number, got {value}; change --{field.name.replace('_', '-')}"
                )
        if not self.wait_ms >= 0:
            raise ValueError(f"expected at least 0 ms to wait for a batch, got {self.wait_ms}; change --wait-ms")
        if self.parts > self.images:
            raise ValueError(
                f"expected room for the {self.parts} images of one request, got {self.images}; raise --images"
            )

        self._check_pixels()

    def _check_pixels(self) -> None:
        refused = Image.MAX_IMAGE_PIXELS and 2 * Image.MAX_IMAGE_PIXELS  # Pillow warns from once as many on
        if refused and self.pixels > refused:
            raise ValueError(
                f"expected at most {refused / MEGAPIXEL:.0f} megapixels, since Pillow decodes no more, got "
                f"{self.megapixels:g}; change --megapixels, or PIL.Image.MAX_IMAGE_PIXELS in Python"
            )

    @property
    def body_bytes(self) -> int:
        return int(self.body_mib * MEBIBYTE)

    @property
    def pixels(self) -> int:
        return int(self.megapixels * MEGAPIXEL)
