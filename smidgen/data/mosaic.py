"""A 2 x 2 mosaic without padding: every part is cut so that it fills its quarter at its usual scale or larger.

Mosaic is from YOLOv4 (Bochkovskiy et al., 2020). There the four images are shrunk onto one canvas; here none is,
because small objects would become smaller still.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from smidgen.data.augmentation import Augmentation
from smidgen.data.cropping import place_window
from smidgen.data.geometry import Window, cut, resize, shift
from smidgen.data.sample import Sample
from smidgen.structures import Preprocessing

# The corner where the four parts meet lies between these shares of the canvas.
_MEETING_POINT = (0.3, 0.7)


def mosaic(
    parts: Sequence[Sample], rule: Preprocessing, augmentation: Augmentation, rng: np.random.Generator
) -> Sample:
    """Four samples on a canvas of the size that the first would have alone; it gives the id, too."""
    first = parts[0]
    canvas_hw = rule.resized_hw(*first.size_hw)
    quarters = _quarters(canvas_hw, rng)
    filled = [_fill(part, quarter, rule, augmentation, rng) for part, quarter in zip(parts, quarters, strict=False)]
    canvas = first.image.new_zeros((3, *canvas_hw))
    for part, quarter in zip(filled, quarters, strict=False):
        rows, columns = (
            slice(quarter.top, quarter.top + quarter.height),
            slice(quarter.left, quarter.left + quarter.width),
        )
        canvas[:, rows, columns] = part.image
    return replace(
        first,
        image=canvas,
        boxes_xyxy=torch.cat([part.boxes_xyxy for part in filled]),
        labels=torch.cat([part.labels for part in filled]),
        ignore_xyxy=torch.cat([part.ignore_xyxy for part in filled]),
        vanished=sum(part.vanished for part in filled),
    )


def _quarters(canvas_hw: tuple[int, int], rng: np.random.Generator) -> list[Window]:
    """Up to four rectangles that tile the canvas (fewer where it is 1 px high or wide)."""
    height, width = canvas_hw
    y, x = (int(rng.uniform(*_MEETING_POINT) * side) for side in canvas_hw)
    windows = [
        Window(0, 0, y, x),
        Window(0, x, y, width - x),
        Window(y, 0, height - y, x),
        Window(y, x, height - y, width - x),
    ]
    return [window for window in windows if window.height and window.width]


def _fill(
    sample: Sample, quarter: Window, rule: Preprocessing, augmentation: Augmentation, rng: np.random.Generator
) -> Sample:
    """Cut a window that resizes to the quarter, and put it in its place."""
    height, width = sample.size_hw
    usual = rule.resized_hw(height, width)[0] / height
    scale = max(usual, quarter.height / height, quarter.width / width)
    size_hw = max(1, round(quarter.height / scale)), max(1, round(quarter.width / scale))
    window = place_window(sample, size_hw, augmentation.crop_around_objects, rng)
    filled = resize(cut(sample, window, augmentation.visibility), (quarter.height, quarter.width))
    return shift(filled, quarter.top, quarter.left)
