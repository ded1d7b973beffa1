"""Pictures of training batches as the network gets them: the first thing to look at when training goes wrong."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from smidgen.structures import Classes, ImageBatch, Target

_LARGEST_SIDE_PX = 1400
_GAP_PX = 6
_BACKGROUND = (32, 32, 36)
_IGNORE_COLOR = (160, 160, 160)
_LEGEND_PX = 16
# Objects smaller than this many pixels on the picture get their line one pixel away, so that it does not cover them.
_TINY_PX = 24


def draw_samples(batch: tuple[ImageBatch, tuple[Target, ...]], classes: Classes, out_png: Path | str) -> Path:
    """Write a grid of the batch's images with thin boxes in class colors, hatched ignore regions, and a legend.

    Small images are enlarged by a whole factor, so that small objects can be seen. Returns `out_png`.
    """
    images, targets = batch
    if images.pixels.is_floating_point():
        raise ValueError("expected a batch with uint8 pixels as the loaders give it, got normalized pixels")
    columns = int(np.ceil(np.sqrt(len(images))))
    factor = max(1, min(4, _LARGEST_SIDE_PX // max(columns * side for side in images.pixels.shape[-2:])))
    cells = [_draw_one(images, targets[index], index, classes, factor) for index in range(len(images))]
    return _save(_with_legend(_grid(cells, columns), classes), Path(out_png))


def class_color(index: int) -> tuple[int, int, int]:
    """A bright color per class; neighbors in index are far apart in hue."""
    red, green, blue = colorsys.hsv_to_rgb((index * 0.618034) % 1.0, 0.85, 1.0)
    return int(red * 255), int(green * 255), int(blue * 255)


def _draw_one(images: ImageBatch, target: Target, index: int, classes: Classes, factor: int) -> Image.Image:
    height, width = images.sizes[index]
    pixels = images.pixels[index, :, :height, :width].permute(1, 2, 0).cpu().numpy()
    picture = Image.fromarray(pixels).resize((width * factor, height * factor), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(picture)
    for box in (target.ignore * factor).tolist():
        _hatch(draw, box)
    for box, label in zip((target.boxes_xyxy * factor).tolist(), target.labels.tolist(), strict=True):
        _outline(draw, box, class_color(label))
    return picture


def _outline(draw: ImageDraw.ImageDraw, box: list[float], color: tuple[int, int, int]) -> None:
    x0, y0, x1, y1 = box
    margin = 1 if min(x1 - x0, y1 - y0) < _TINY_PX else 0
    # Pixel x covers [x, x + 1]: the last pixel inside a box is one before its end.
    start, stop = (round(x0) - margin, round(y0) - margin), (round(x1) - 1 + margin, round(y1) - 1 + margin)
    draw.rectangle((start, (max(start[0], stop[0]), max(start[1], stop[1]))), outline=color)


def _hatch(draw: ImageDraw.ImageDraw, box: list[float], spacing: int = 8) -> None:
    """Diagonal lines inside the region."""
    x0, y0, x1, y1 = box
    height = y1 - y0
    for offset in np.arange(x0 - height, x1, spacing):
        start, stop = max(offset, x0), min(offset + height, x1)
        draw.line(((start, y0 + start - offset), (stop, y0 + stop - offset)), fill=_IGNORE_COLOR)
    draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=_IGNORE_COLOR)


def _grid(cells: list[Image.Image], columns: int) -> Image.Image:
    width, height = (max(side) + _GAP_PX for side in zip(*(cell.size for cell in cells), strict=True))
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), _BACKGROUND)
    for index, cell in enumerate(cells):
        sheet.paste(cell, (index % columns * width, index // columns * height))
    return sheet


def _with_legend(sheet: Image.Image, classes: Classes) -> Image.Image:
    """Class names in their colors below the grid, as many as fit on one line."""
    taller = Image.new("RGB", (sheet.width, sheet.height + _LEGEND_PX), _BACKGROUND)
    taller.paste(sheet, (0, 0))
    draw, x = ImageDraw.Draw(taller), 4.0
    for index, name in enumerate(classes.names):
        draw.text((x, sheet.height), name, fill=class_color(index), font=ImageFont.load_default(12))
        x += draw.textlength(name, font=ImageFont.load_default(12)) + 12
    return taller


def _save(picture: Image.Image, out_png: Path) -> Path:
    out_png.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out_png.with_name(out_png.name + ".part")
    picture.save(unfinished, format="PNG")
    unfinished.replace(out_png)
    return out_png
