"""A detector for tests of the server: the box around everything bright, at any speed and with any failure."""

from __future__ import annotations

import io
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import nn

from smidgen.structures import Classes, Detections, ImageBatch, Preprocessing


@dataclass(frozen=True)
class ServedConfig:
    preprocessing: Preprocessing = field(default_factory=lambda: Preprocessing(short_side=32, long_side=64))


class ServedDetector(nn.Module):
    """seconds: of every batch. before: called with every batch; it may raise."""

    name = "served"

    def __init__(self, seconds: float = 0.0, before: Callable[[ImageBatch], None] = lambda images: None) -> None:
        super().__init__()
        self.config, self.classes = ServedConfig(), Classes(("spot",), (7,))
        self.seconds, self.before = seconds, before
        self.batches: list[int] = []

    def detect(self, images: ImageBatch, original_hw: Sequence[tuple[int, int]]) -> list[Detections]:
        self.batches.append(len(images))
        time.sleep(self.seconds)
        self.before(images)
        return [self._one(images, index, hw) for index, hw in enumerate(original_hw)]

    def _one(self, images: ImageBatch, index: int, original_hw: tuple[int, int]) -> Detections:
        height, width = images.sizes[index]
        rows, columns = torch.nonzero(images.pixels[index, 0, :height, :width] > 128, as_tuple=True)
        boxes = torch.zeros(0, 4)
        if len(rows):
            corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            scale = [original_hw[1] / width, original_hw[0] / height] * 2
            boxes = torch.tensor([[float(corner) * one for corner, one in zip(corners, scale, strict=True)]])
        count = len(boxes)
        return Detections(
            boxes_xyxy=boxes,
            scores=torch.full((count,), 0.9),
            labels=torch.zeros(count, dtype=torch.long),
            image_hw=original_hw,
            class_names=self.classes.names,
            category_ids=self.classes.ids,
        )


def picture(size_wh: tuple[int, int] = (64, 32), kind: str = "PNG", shift: int = 0) -> bytes:
    """Black, with a white rectangle from (16 + shift, 8) to (32 + shift, 16)."""
    image = Image.new("RGB", size_wh)
    image.paste((255, 255, 255), (16 + shift, 8, 32 + shift, 16))
    stored = io.BytesIO()
    image.save(stored, format=kind)
    return stored.getvalue()


@asynccontextmanager
async def client_of(app: Any) -> AsyncIterator[Any]:
    """An httpx client that talks to the application without a socket, while it is started."""
    import httpx

    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            yield client
