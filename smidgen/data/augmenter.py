"""The training pipeline: from an index and random streams to an augmented sample, as `Augmentation` says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from smidgen.data.augmentation import Augmentation
from smidgen.data.color import jitter_color
from smidgen.data.copy_paste import paste_small_objects
from smidgen.data.cropping import place_window
from smidgen.data.geometry import cut, flip_horizontally, flip_vertically, resize, turn
from smidgen.data.mosaic import mosaic
from smidgen.data.sample import Sample
from smidgen.structures import Preprocessing

# Images more elongated than this are not enlarged to the full first side of the crop recipe: 1 x 10,000 px would become
# gigabytes. (The DETR recipe sets no limit there; COCO images never come near it.)
_MOST_ELONGATED = 4


@dataclass(frozen=True, slots=True)
class Shape:
    """The draws that decide a sample's shape. window_rng: continues the stream, for the sides of the crop window."""

    short_side: int
    quarters: int
    mosaic: bool
    crop: bool
    window_rng: np.random.Generator


@dataclass(frozen=True, slots=True)
class Augmenter:
    """load: index -> sample as it is on disk. count: how many images there are."""

    augmentation: Augmentation
    preprocessing: Preprocessing
    load: Callable[[int], Sample]
    count: int

    def __call__(self, index: int, epoch: int, shape_rng: np.random.Generator, rng: np.random.Generator) -> Sample:
        """The augmented sample of image `index`. shape_rng: for what decides its shape; rng: for the rest."""
        settings = self.augmentation
        combine = settings.combine_epochs is None or epoch < settings.combine_epochs
        shape = self._shape(shape_rng)
        if combine and shape.mosaic:
            sample = self._mosaic(index, shape, rng)
        else:
            sample = self._resized(self._prepared(index, shape, combine, rng), shape, rng)
        return jitter_color(sample, settings, rng)

    def _shape(self, rng: np.random.Generator) -> Shape:
        settings = self.augmentation
        short_side = int(rng.choice(settings.short_sides or (self.preprocessing.short_side,)))
        turned, quarters = rng.random() < settings.quarter_turns, int(rng.integers(1, 4))
        mosaic, crop = rng.random() < settings.mosaic, rng.random() < settings.crop
        return Shape(short_side, quarters if turned else 0, mosaic, crop, rng)

    def _mosaic(self, index: int, shape: Shape, rng: np.random.Generator) -> Sample:
        others = rng.integers(self.count, size=3)
        parts = [self._prepared(int(part), shape, True, rng) for part in (index, *others)]
        return mosaic(parts, self._rule(shape.short_side), self.augmentation, rng)

    def _prepared(self, index: int, shape: Shape, combine: bool, rng: np.random.Generator) -> Sample:
        """Everything that happens at the resolution of the image on disk."""
        sample = self.load(index)
        if combine and rng.random() < self.augmentation.copy_paste:
            foreign = rng.random() < self.augmentation.copy_paste_from_others
            source = self.load(int(rng.integers(self.count))) if foreign else sample
            sample = paste_small_objects(sample, source, self.augmentation, rng)
        return turn(self._flipped(sample, rng), shape.quarters)

    def _flipped(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() < self.augmentation.horizontal_flip:
            sample = flip_horizontally(sample)
        if rng.random() < self.augmentation.vertical_flip:
            sample = flip_vertically(sample)
        return sample

    def _resized(self, sample: Sample, shape: Shape, rng: np.random.Generator) -> Sample:
        if shape.crop:
            sample = self._cropped(sample, shape.window_rng, rng)
        return resize(sample, self._rule(shape.short_side).resized_hw(*sample.size_hw))

    def _rule(self, short_side: int) -> Preprocessing:
        """The model's resize rule with the drawn short side."""
        long_side = self.augmentation.long_side or self.preprocessing.long_side
        return replace(self.preprocessing, short_side=short_side, long_side=max(long_side, short_side))

    def _cropped(self, sample: Sample, window_rng: np.random.Generator, rng: np.random.Generator) -> Sample:
        """The DETR recipe's second branch: resize, then cut a window of random size and shape."""
        settings = self.augmentation
        side = int(window_rng.choice(settings.crop_short_sides))
        rule = replace(self.preprocessing, short_side=side, long_side=side * _MOST_ELONGATED)
        sample = resize(sample, rule.resized_hw(*sample.size_hw))
        height, width = (_window_side(settings.crop_sides, limit, window_rng) for limit in sample.size_hw)
        window = place_window(sample, (height, width), settings.crop_around_objects, rng)
        return cut(sample, window, settings.visibility)


def _window_side(sides: tuple[int, int], limit: int, rng: np.random.Generator) -> int:
    """Uniform between the smallest and the largest side, at most the image's."""
    smallest, largest = min(sides[0], limit), min(sides[1], limit)
    return smallest + int(rng.random() * (largest - smallest + 1))
