"""What the model is shown of large images, one look after the other: tiles, mirrored and scaled, and whole images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import UInt8
from torch import Tensor

from smidgen.boxes.conversions import clip_to_image
from smidgen.boxes.tile_merging import SeenBoxes
from smidgen.boxes.tiles import TilePlan
from smidgen.data.geometry import resize_pixels
from smidgen.data.image_files import UnreadableImageError
from smidgen.data.windows import WindowReader, WindowXYXY
from smidgen.inference.tiling.settings import TileChooser, Tiling
from smidgen.inference.tiling.window_sources import WindowSource
from smidgen.structures import Detections, Preprocessing

OnUnreadable = Callable[[str, UnreadableImageError], None]
"""Hears of an image, by its name, that cannot be read or only in part."""


@dataclass(slots=True)
class TiledImage:
    """An image that is being looked at: its plan, and what was seen so far. pending: looks without an answer yet;
    complete: no further look will come. failed: reading broke off.
    """

    name: str
    plan: TilePlan
    seen: list[SeenBoxes] = field(default_factory=list)
    pending: int = 0
    complete: bool = False
    failed: bool = False
    full_looks: int = 0

    @property
    def is_answered(self) -> bool:
        """Whether all that will be seen of it has been seen."""
        return self.complete and not self.pending


@dataclass(frozen=True, slots=True)
class Look:
    """One image for the model. tile: index in the plan, or None for the whole image. view: number of the tile and pass.
    pixels: at the model's size, mirrored where `mirrored`.
    """

    image: TiledImage
    tile: int | None
    view: int
    window_xyxy: WindowXYXY
    pixels: UInt8[Tensor, "3 h w"]
    mirrored: bool

    @property
    def window_hw(self) -> tuple[int, int]:
        """Size of the window in pixels of the image."""
        left, top, right, bottom = self.window_xyxy
        return bottom - top, right - left

    def add(self, detections: Detections) -> None:
        """Keep what the model found in this look; boxes in pixels of the window as it was shown."""
        self.image.pending -= 1
        self.image.seen.append(self._in_image(detections))

    def _in_image(self, detections: Detections) -> SeenBoxes:
        left, top = self.window_xyxy[:2]
        boxes = clip_to_image(detections.boxes_xyxy.cpu(), self.window_hw)
        if self.mirrored:
            boxes = torch.stack(
                [self.window_hw[1] - boxes[:, 2], boxes[:, 1], self.window_hw[1] - boxes[:, 0], boxes[:, 3]], 1
            )
        # Double: thousands of pixels from the corner, float32 rounds to hundredths.
        boxes = boxes.double() + torch.tensor([left, top, left, top])
        seen = SeenBoxes(
            boxes,
            detections.scores.cpu(),
            detections.labels.cpu(),
            torch.full((len(boxes),), self.view),
            torch.tensor([self.window_xyxy], dtype=torch.float64).expand(len(boxes), 4),
            self._owned(boxes),
        )
        return seen if self.tile is not None else seen[seen.owned]

    def _owned(self, boxes_xyxy: Tensor) -> Tensor:
        """A tile answers for what has its center in the core; the whole image for what is larger than the overlap."""
        if self.tile is None:
            return (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).amax(1) > self.image.plan.overlap_px
        return self.image.plan.owners(boxes_xyxy) == self.tile


@dataclass(frozen=True, slots=True)
class Looking:
    """Goes over images and shows the model what `tiling` says of each. decoded_bytes: what an image that must be
    decoded whole may take. choose: which tiles deserve a look (None: all).
    """

    tiling: Tiling
    preprocessing: Preprocessing
    decoded_bytes: int
    on_unreadable: OnUnreadable
    choose: TileChooser | None = None

    def over(self, sources: Iterable[WindowSource], started: Callable[[TiledImage], None]) -> Iterator[Look]:
        """Looks at all images, one after another; `started` hears of an image before its first look."""
        for source in sources:
            image: TiledImage | None = None
            try:
                with source.open(self.tiling.pixels, self.decoded_bytes) as reader:
                    image = TiledImage(source.name, self.tiling.plan(reader.size_hw))
                    started(image)
                    yield from self._looks_at(image, reader)
            except UnreadableImageError as error:
                if image is not None:
                    image.failed = True
                self.on_unreadable(source.name, error)
            if image is not None:
                image.complete = True

    def _looks_at(self, image: TiledImage, reader: WindowReader) -> Iterator[Look]:
        plan, passes = image.plan, self.tiling.num_passes
        chosen = range(len(plan)) if self.choose is None else torch.nonzero(self.choose(reader, plan))[:, 0].tolist()
        windows = plan.windows_xyxy.tolist()
        for tile in chosen:
            left, top, right, bottom = windows[tile]
            pixels = reader.read((left, top, right, bottom))
            if pixels is not None:
                for number, (shown, mirrored) in enumerate(self._passes(pixels)):
                    yield self._look(image, tile, tile * passes + number, (left, top, right, bottom), shown, mirrored)
        if self.tiling.whole_image and len(plan) > 1:
            height, width = reader.size_hw
            shown = reader.reduced(self.preprocessing.resized_hw(height, width))
            yield self._look(image, None, len(plan) * passes, (0, 0, width, height), shown, False)

    def _look(
        self, image: TiledImage, tile: int | None, view: int, window: WindowXYXY, pixels: Tensor, mirrored: bool
    ) -> Look:
        image.pending += 1
        return Look(image, tile, view, window, pixels, mirrored)

    def _passes(self, pixels: UInt8[Tensor, "3 h w"]) -> Iterator[tuple[Tensor, bool]]:
        height, width = pixels.shape[-2:]
        for scale in self.tiling.scales:
            shown = resize_pixels(pixels, scaled(self.preprocessing, scale).resized_hw(height, width))
            yield shown, False
            if self.tiling.flips:
                yield shown.flip(-1), True


def scaled(preprocessing: Preprocessing, scale: float) -> Preprocessing:
    """The same for an input that is larger by this factor."""
    if scale == 1.0:
        return preprocessing
    short, long = (max(1, round(side * scale)) for side in (preprocessing.short_side, preprocessing.long_side))
    return replace(preprocessing, short_side=short, long_side=long)
