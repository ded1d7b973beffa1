"""A picture of an image too large to be looked at: all of it reduced, and insets at full size where most was found."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from smidgen.data.sample_pictures import class_color
from smidgen.data.windows import WindowReader, WindowXYXY
from smidgen.inference.drawing import LEGEND_BACKGROUND, LEGEND_TEXT, outlined, with_legend
from smidgen.structures import Detections

LARGEST_SIDE_DRAWN = 4096  # px; beyond, an overview stands for the image
OVERVIEW_SIDE = 2000  # px
INSETS = 4
SMALLEST_MARK = 5  # px of an object in the overview
_INSET_SIDE = 320  # px of the image
_MARGIN = 8
_FRAME = (255, 255, 255)


def draw_large(reader: WindowReader, detections: Detections, *, insets: int | None = None) -> Image.Image:
    """The overview with a mark for each detection, and beside or below it windows of the image with their outlines.

    insets: how many (None: 4); a letter in the overview says where each lies.
    """
    boxes = detections.boxes_xyxy.detach().cpu().double().numpy()
    labels = detections.labels.tolist()
    windows = _fullest_windows(boxes, reader.size_hw, INSETS if insets is None else insets)
    overview = _overview(reader, boxes, labels, windows)
    crops = [_inset(reader, window, letter, boxes, labels) for letter, window in _lettered(windows)]
    return with_legend(_beside(overview, crops), Counter(labels), detections.class_names)


def _overview(
    reader: WindowReader, boxes: Float[NDArray[np.float64], "n 4"], labels: Sequence[int], windows: Sequence[WindowXYXY]
) -> Image.Image:
    height, width = reader.size_hw
    factor = min(1.0, OVERVIEW_SIDE / max(height, width))
    picture = _picture(reader.reduced((max(1, round(height * factor)), max(1, round(width * factor)))))
    pen = ImageDraw.Draw(picture)
    middles, halves = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    halves = np.maximum(halves * factor, SMALLEST_MARK / 2)
    marks = np.concatenate([middles * factor - halves, middles * factor + halves], axis=1).round().tolist()
    for mark, label in reversed(list(zip(marks, labels, strict=True))):
        pen.rectangle(mark, outline=class_color(label))
    font = ImageFont.load_default(24)
    for letter, window in _lettered(windows):
        left, top, right, bottom = (side * factor for side in window)
        pen.rectangle((left, top, right, bottom), outline=_FRAME, width=2)
        pen.text((left + 4, top + 2), letter, fill=_FRAME, font=font, stroke_width=2, stroke_fill=(0, 0, 0))
    return picture


def _inset(
    reader: WindowReader,
    window: WindowXYXY,
    letter: str,
    boxes: Float[NDArray[np.float64], "n 4"],
    labels: Sequence[int],
) -> Image.Image:
    left, top, right, bottom = window
    pixels = reader.read(window)
    crop = Image.new("RGB", (right - left, bottom - top)) if pixels is None else _picture(pixels)
    inside = (boxes[:, 0] < right) & (boxes[:, 2] > left) & (boxes[:, 1] < bottom) & (boxes[:, 3] > top)
    rows = np.flatnonzero(inside).tolist()
    moved = [tuple(box) for box in (boxes[rows] - [left, top, left, top]).tolist()]
    picture = outlined(crop, moved, [labels[row] for row in rows], 2)
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(28)
    pen.text((8, 4), letter, fill=LEGEND_TEXT, font=font, stroke_width=2, stroke_fill=(0, 0, 0))
    return picture


def _fullest_windows(
    boxes: Float[NDArray[np.float64], "n 4"], size_hw: tuple[int, int], count: int
) -> list[WindowXYXY]:
    """Cells of a grid over the image with the most centers of boxes, the fullest first."""
    height, width = size_hw
    rows, columns = -(-height // _INSET_SIDE), -(-width // _INSET_SIDE)
    cells = ((boxes[:, :2] + boxes[:, 2:]) / 2 // _INSET_SIDE).astype(np.int64).clip(0, [columns - 1, rows - 1])
    numbers = np.bincount(cells[:, 1] * columns + cells[:, 0], minlength=rows * columns)
    fullest = [int(cell) for cell in np.argsort(-numbers, kind="stable")[:count] if numbers[cell]]
    return [_window_of(cell // columns, cell % columns, size_hw) for cell in fullest]


def _window_of(row: int, column: int, size_hw: tuple[int, int]) -> WindowXYXY:
    height, width = size_hw
    top = max(0, min(row * _INSET_SIDE, height - _INSET_SIDE))
    left = max(0, min(column * _INSET_SIDE, width - _INSET_SIDE))
    return left, top, min(left + _INSET_SIDE, width), min(top + _INSET_SIDE, height)


def _beside(overview: Image.Image, crops: Sequence[Image.Image]) -> Image.Image:
    """Insets in a row below a wide overview, in a column beside a tall one, shrunk to fit where they are longer."""
    if not crops:
        return overview
    below = overview.width >= overview.height
    room = overview.width if below else overview.height
    side = min(2 * _INSET_SIDE, (room + _MARGIN) // len(crops) - _MARGIN)
    fitted = [crop.resize((side, max(1, side * crop.height // crop.width)), Image.Resampling.LANCZOS) for crop in crops]
    step = side + _MARGIN
    size = (room, overview.height + step) if below else (overview.width + step, room)
    joined = Image.new("RGB", size, LEGEND_BACKGROUND)
    joined.paste(overview, (0, 0))
    for index, crop in enumerate(fitted):
        corner = (index * step, overview.height + _MARGIN) if below else (overview.width + _MARGIN, index * step)
        joined.paste(crop, corner)
    return joined


def _lettered(windows: Sequence[WindowXYXY]) -> list[tuple[str, WindowXYXY]]:
    return [(string.ascii_uppercase[index % 26], window) for index, window in enumerate(windows)]


def _picture(pixels: Tensor) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))
