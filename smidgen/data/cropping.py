"""Where a window is cut: anywhere, or around an object, so that small objects are not cropped away."""

from __future__ import annotations

import numpy as np

from smidgen.data.geometry import Window
from smidgen.data.sample import Sample


def place_window(sample: Sample, size_hw: tuple[int, int], around: float, rng: np.random.Generator) -> Window:
    """A window of this size (at most the image). around: probability of containing a randomly chosen object whole."""
    height, width = (min(wanted, side) for wanted, side in zip(size_hw, sample.size_hw, strict=True))
    x_range, y_range = (0, sample.size_hw[1] - width), (0, sample.size_hw[0] - height)
    # Both draws happen in any case, so that the stream does not depend on what is in the image.
    wants_object, chosen = rng.random() < around, rng.random()
    if wants_object and len(sample.labels):
        box = sample.boxes_xyxy[int(chosen * len(sample.labels))].tolist()
        x_range = _containing(box[0], box[2], width, x_range[1])
        y_range = _containing(box[1], box[3], height, y_range[1])
    left, top = int(rng.integers(*x_range, endpoint=True)), int(rng.integers(*y_range, endpoint=True))
    return Window(top, left, height, width)


def _containing(start: float, stop: float, length: int, last: int) -> tuple[int, int]:
    """Window starts in 0..last for which [start, stop] lies inside, or is centered where it is too long for that."""
    lowest, highest = int(np.ceil(stop)) - length, int(np.floor(start))
    if lowest > highest:
        lowest = highest = round((start + stop - length) / 2)
    return min(max(lowest, 0), last), min(max(highest, 0), last)
