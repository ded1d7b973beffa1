"""Single lost objects as small pictures with words, for a page that lays them out as its window allows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from smidgen.analysis.lost_objects_gallery import ANSWER_COLOR, OTHERS_COLOR, Crop
from smidgen.analysis.panels import TRUTH_COLOR
from smidgen.analysis.report import Figure, picture_source

SIDE_PX = 320
LINE_PX = 3


def crop_figure(crop: Crop) -> Figure:
    """The crop enlarged, with the object, the answer that came closest and other objects outlined."""
    rows, columns = crop.pixels.shape[:2]
    enlarged = SIDE_PX / max(rows, columns)
    picture = Image.fromarray(crop.pixels).resize(
        (round(columns * enlarged), round(rows * enlarged)), Image.Resampling.NEAREST
    )
    draw = ImageDraw.Draw(picture)
    _outline(draw, crop, crop.others_xyxy, enlarged, OTHERS_COLOR, 1)
    _outline(draw, crop, crop.row["best_box"] or [], enlarged, ANSWER_COLOR, LINE_PX)
    _outline(draw, crop, crop.row["box"], enlarged, TRUTH_COLOR, LINE_PX)
    return Figure(picture_source(picture), crop_words(crop.row), picture.size)


def crop_words(row: dict[str, Any]) -> str:
    """What was missed, and what the answer that came closest said."""
    what = f"{row['class']}, {row['size_px']:.0f} px, image {row['image_id']}: "
    if row["best_box"] is None:
        return f"{what}no answer near"
    return f"{what}{row['best_class']} {row['best_score']:.2f}, IoU {row['best_iou']:.2f}"


def _outline(draw: ImageDraw.ImageDraw, crop: Crop, boxes_xyxy: Any, enlarged: float, color: str, line_px: int) -> None:
    """Boxes of the image on disk, the line around them; what lies outside is cut."""
    boxes: npt.NDArray[np.float64] = np.asarray(boxes_xyxy, dtype=float).reshape(-1, 4)
    inside = (boxes * (crop.scale_xy * 2) - crop.corner_xy * 2) * enlarged
    for x0, y0, x1, y1 in inside.tolist():
        draw.rectangle((x0 - line_px, y0 - line_px, x1 + line_px, y1 + line_px), outline=color, width=line_px)
