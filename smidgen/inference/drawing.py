"""Detections drawn so that tiny objects stay visible: thin outlines around the objects, classes in a legend beside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

from smidgen.data.sample_pictures import class_color
from smidgen.structures import Detections

Color = tuple[int, int, int]
Box = tuple[float, float, float, float]

LEGEND_BACKGROUND: Color = (24, 26, 30)
LEGEND_TEXT: Color = (235, 235, 235)
SMALLEST_INSET = 96  # px
SMALLEST_LEGEND_WIDTH = 320  # px
SMALLEST_SIDE_SHOWN = 640  # px: smaller pictures are enlarged by whole factors, so that 1 px lines do not hide objects


def draw_detections(
    image: Image.Image,
    detections: Detections,
    *,
    scale: int | None = None,
    insets: int = 0,
    legend: bool = True,
    all_classes: bool = False,
) -> Image.Image:
    """The picture with an outline per detection, just outside the box, colored by class.

    image: the original image; `detections` are in its pixels. scale: whole enlargement (None: enough for a
    long side of 640 px). insets: how many zoomed windows onto the smallest detections to append at the right.
    legend: append a strip with the color, name and number of each class found. all_classes: name those not found, too,
    so that the frames of a video are alike.
    """
    scale = scale or max(1, -(-SMALLEST_SIDE_SHOWN // max(image.size)))
    boxes = [tuple(box) for box in detections.boxes_xyxy.tolist()]
    labels = detections.labels.tolist()
    plain = image.convert("RGB")
    picture = outlined(plain, boxes, labels, scale)
    if insets and boxes:
        picture = _with_insets(picture, plain, boxes, labels, insets)
    if legend:
        named = range(len(detections.class_names)) if all_classes else ()
        picture = with_legend(picture, {**dict.fromkeys(named, 0), **Counter(labels)}, detections.class_names)
    return picture


def outlined(image: Image.Image, boxes: Sequence[tuple[float, ...]], labels: Sequence[int], scale: int) -> Image.Image:
    """The picture, enlarged by a whole factor, with an outline just outside each box; boxes are in its pixels."""
    picture = (
        image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)
        if scale > 1
        else image.copy()
    )
    pen = ImageDraw.Draw(picture)
    width = max(min(scale, 2), round(max(picture.size) / 1600))
    # Worst first, so that the best outline lies on top.
    for (x0, y0, x1, y1), label in reversed(list(zip(boxes, labels, strict=True))):
        outline = (x0 * scale - width, y0 * scale - width, x1 * scale + width - 1, y1 * scale + width - 1)
        pen.rectangle(_ordered(outline), outline=class_color(label), width=width)
    return picture


def _ordered(box: Box) -> Box:
    x0, y0, x1, y1 = box
    return x0, y0, max(x0, x1), max(y0, y1)


def with_legend(picture: Image.Image, counts: Mapping[int, int], names: Sequence[str]) -> Image.Image:
    """The picture above a strip with the color, name and number of each class."""
    width = max(picture.width, SMALLEST_LEGEND_WIDTH)
    size = min(max(14, round(width / 45)), 48)
    font = ImageFont.load_default(size)
    entries = [(class_color(label), f"{_name(names, label)}  {count}") for label, count in sorted(counts.items())]
    entries = entries or [(LEGEND_BACKGROUND, "nothing found")]
    rows = _rows(entries, font, width, size)
    strip = Image.new("RGB", (width, len(rows) * 2 * size), LEGEND_BACKGROUND)
    pen = ImageDraw.Draw(strip)
    for row, places in enumerate(rows):
        top = row * 2 * size + size // 2
        for left, color, text in places:
            pen.rectangle((left, top, left + size, top + size), outline=color, width=max(2, size // 6))
            pen.text((left + 1.5 * size, top + size / 2), text, fill=LEGEND_TEXT, font=font, anchor="lm")
    joined = Image.new("RGB", (width, picture.height + strip.height))
    joined.paste(picture, (0, 0))
    joined.paste(strip, (0, picture.height))
    return joined


def _name(names: Sequence[str], label: int) -> str:
    return names[label] if label < len(names) else str(label)


def _rows(
    entries: Sequence[tuple[Color, str]], font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int, size: int
) -> list[list[tuple[int, Color, str]]]:
    """Legend entries broken into lines: per line, where each begins."""
    rows: list[list[tuple[int, Color, str]]] = [[]]
    left = size // 2
    for color, text in entries:
        length = int(3 * size + font.getlength(text))
        if rows[-1] and left + length > width:
            rows.append([])
            left = size // 2
        rows[-1].append((left, color, text))
        left += length
    return rows


def _with_insets(
    picture: Image.Image, image: Image.Image, boxes: Sequence[tuple[float, ...]], labels: Sequence[int], count: int
) -> Image.Image:
    """Append a column of windows onto the smallest detections, enlarged to fill it."""
    count = max(1, min(count, picture.height // SMALLEST_INSET))
    tile = max(SMALLEST_INSET, picture.height // count)
    column = Image.new("RGB", (tile, picture.height), LEGEND_BACKGROUND)
    for row, window in enumerate(_windows(boxes, count, image.size)):
        crop = image.crop(window)
        scale = max(1, tile // crop.width)
        inside = [index for index, box in enumerate(boxes) if _touches(box, window)]
        moved = [_moved(boxes[index], window) for index in inside]
        zoomed = outlined(crop, moved, [labels[index] for index in inside], scale)
        column.paste(zoomed.resize((tile - 4, tile - 4), Image.Resampling.NEAREST), (4, row * tile))
    joined = Image.new("RGB", (picture.width + tile, picture.height))
    joined.paste(picture, (0, 0))
    joined.paste(column, (picture.width, 0))
    return joined


def _windows(
    boxes: Sequence[tuple[float, ...]], count: int, size_wh: tuple[int, int]
) -> list[tuple[int, int, int, int]]:
    """Square windows around the smallest boxes, none holding the center of another."""
    chosen: list[tuple[int, int, int, int]] = []
    for x0, y0, x1, y1 in sorted(boxes, key=lambda box: (box[2] - box[0]) * (box[3] - box[1])):
        center_x, center_y = (x0 + x1) / 2, (y0 + y1) / 2
        if any(left <= center_x <= right and top <= center_y <= bottom for left, top, right, bottom in chosen):
            continue
        side = int(min(max(48, 2.5 * max(x1 - x0, y1 - y0)), *size_wh))
        left = int(min(max(0, center_x - side / 2), size_wh[0] - side))
        top = int(min(max(0, center_y - side / 2), size_wh[1] - side))
        chosen.append((left, top, left + side, top + side))
        if len(chosen) == count:
            break
    return chosen


def _touches(box: tuple[float, ...], window: tuple[int, int, int, int]) -> bool:
    return box[0] < window[2] and box[2] > window[0] and box[1] < window[3] and box[3] > window[1]


def _moved(box: tuple[float, ...], window: tuple[int, int, int, int]) -> Box:
    return box[0] - window[0], box[1] - window[1], box[2] - window[0], box[3] - window[1]
