"""The worst losses of each stage as crops: the object, the answer that came closest, and in words what went wrong.

Worst is the most confident mistake where something was answered, and the largest object where nothing was: those are
hardest to excuse. However many images pass, only a few crops of each stage are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smidgen.analysis.loss_stages import FOUND, STAGES
from smidgen.analysis.object_fates import LostObjects, ObjectFates
from smidgen.analysis.observation import Observation
from smidgen.analysis.panels import TRUTH_COLOR, Picture, how_many, legend_below, outline_boxes

CROPS_PER_STAGE = 6
ANSWERED = ("badly_localized", "wrong_class", "suppressed", "limit")
ANSWER_COLOR, OTHERS_COLOR = "#FF3CF0", "#56B4E9"
LEAST_SIDE_PX, MOST_SIDE_PX = 48.0, 320.0
CONTEXT = 3.0
COLUMNS, CROP_INCHES, WORDS_INCHES, HEADING_INCHES = 6, 1.95, 0.58, 0.32


@dataclass(frozen=True, slots=True)
class Crop:
    """A piece of the network's input around one missed object.

    pixels: height x width x 3. corner_xy, scale_xy: where it begins, and input pixels per pixel of the image on disk,
    in which all boxes are. others_xyxy: further objects of the image. row: of the object, as `ObjectFates.rows` gives
    it. worst: larger is worse within a stage.
    """

    pixels: npt.NDArray[np.uint8]
    corner_xy: tuple[int, int]
    scale_xy: tuple[float, float]
    others_xyxy: npt.NDArray[np.float64]
    row: dict[str, Any]
    worst: float


@dataclass(frozen=True, slots=True)
class LostObjectsGallery:
    """Crops by stage, worst first, at most `per_stage` of each; galleries of several batches add up."""

    crops: dict[str, tuple[Crop, ...]]
    per_stage: int = CROPS_PER_STAGE

    def __add__(self, other: LostObjectsGallery) -> LostObjectsGallery:
        per_stage = min(self.per_stage, other.per_stage)
        joined = {stage: [*self.crops.get(stage, ()), *other.crops.get(stage, ())] for stage in STAGES}
        crops = {stage: _worst(found, per_stage) for stage, found in joined.items() if found}
        return LostObjectsGallery(crops, per_stage)

    def to_json(self) -> dict[str, Any]:
        """Plain values: the shown objects by stage."""
        return {stage: [crop.row for crop in crops] for stage, crops in self.crops.items()}


def lost_objects_gallery(
    observation: Observation, lost: LostObjects, class_names: Sequence[str] = (), per_stage: int = CROPS_PER_STAGE
) -> LostObjectsGallery:
    """The worst losses of one batch. lost: `trace_objects` of the same observation."""
    worst, fates = _how_bad(lost.fates), lost.fates
    image_of = np.repeat(np.arange(len(observation)), [len(target) for target in observation.targets])
    rows = list(fates.rows(class_names))
    crops = {}
    for number, stage in enumerate(STAGES):
        here = np.flatnonzero(fates.stages == number)
        shown = here[np.argsort(-worst[here], kind="stable")][:per_stage]
        if len(shown):
            crops[stage] = tuple(
                _crop(observation, int(image_of[one]), fates, image_of, int(one), rows[one], float(worst[one]))
                for one in shown
            )
    return LostObjectsGallery(crops, per_stage)


def gallery_picture(gallery: LostObjectsGallery) -> Picture:
    """A block of rows for each stage at which something was lost, in the stages' order.

    data: `LostObjectsGallery.to_json()`.
    """
    shown = [(STAGES[stage], gallery.crops[stage]) for stage in STAGES if stage in gallery.crops]
    heights = [(CROP_INCHES + WORDS_INCHES) * -(-len(crops) // COLUMNS) + HEADING_INCHES for _, crops in shown]
    figure = Figure(figsize=(COLUMNS * CROP_INCHES + 0.3, sum(heights) + 1.1), layout="constrained")
    if not shown:
        figure.suptitle("No object was lost", fontsize=13)
        return Picture(figure, {})
    figure.suptitle("The worst losses of each stage", fontsize=13)
    blocks = figure.subfigures(len(shown), 1, height_ratios=heights, squeeze=False)[:, 0]
    for block, (words, crops) in zip(blocks, shown, strict=True):
        block.suptitle(f"{words}: {how_many(len(crops), 'example')}", fontsize=11, x=0.01, ha="left", weight="bold")
        grid = block.subplots(-(-len(crops) // COLUMNS), COLUMNS, squeeze=False).flatten()
        for axes, crop in zip(grid, crops, strict=False):
            _draw(axes, crop)
        for axes in grid[len(crops) :]:
            axes.set_axis_off()
    legend_below(
        figure,
        [
            ("box", TRUTH_COLOR, "the missed object"),
            ("box", ANSWER_COLOR, "the answer that came closest"),
            ("box", OTHERS_COLOR, "other objects"),
        ],
    )
    return Picture(figure, gallery.to_json())


def _worst(crops: Sequence[Crop], number: int) -> tuple[Crop, ...]:
    return tuple(sorted(crops, key=lambda crop: -crop.worst)[:number])


def _how_bad(fates: ObjectFates) -> npt.NDArray[np.float64]:
    """Score of the answer where something was answered, else size; stages are never compared with each other."""
    answered = np.isin(fates.stages, [list(STAGES).index(stage) for stage in ANSWERED])
    bad: npt.NDArray[np.float64] = np.where(answered, fates.answer_scores, fates.sizes_px)
    return np.where(fates.stages == FOUND, -np.inf, bad)


def _crop(
    observation: Observation,
    image: int,
    fates: ObjectFates,
    image_of: npt.NDArray[np.int64],
    one: int,
    row: dict[str, Any],
    worst: float,
) -> Crop:
    height, width = observation.images.sizes[image]
    original_height, original_width = observation.targets[image].original_hw
    scale = width / original_width, height / original_height
    x0, y0, x1, y1 = _window(fates.boxes_xyxy[one] * (*scale, *scale), (height, width))
    pixels = observation.images.pixels[image, :, y0:y1, x0:x1].permute(1, 2, 0).cpu().numpy().copy()
    others = fates.boxes_xyxy[(image_of == image) & (np.arange(len(image_of)) != one)]
    return Crop(pixels, (x0, y0), scale, others, row, worst)


def _window(box_xyxy: npt.NDArray[Any], size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """A square of about three times the object's side around it, moved into the image where it does not fit."""
    longest = float((box_xyxy[2:] - box_xyxy[:2]).max())
    side = round(min(max(CONTEXT * longest, LEAST_SIDE_PX), max(MOST_SIDE_PX, longest)))
    corners = []
    for axis, limit in enumerate(reversed(size_hw)):
        span = min(side, limit)
        middle = float(box_xyxy[axis] + box_xyxy[axis + 2]) / 2
        start = min(max(round(middle - span / 2), 0), limit - span)
        corners.append((start, start + span))
    (x0, x1), (y0, y1) = corners
    return x0, y0, x1, y1


def _draw(axes: Axes, crop: Crop) -> None:
    rows, columns = crop.pixels.shape[:2]
    axes.imshow(crop.pixels, extent=(0, columns, rows, 0), interpolation="nearest")
    axes.set(xlim=(0, columns), ylim=(rows, 0), xticks=[], yticks=[])
    outline_boxes(axes, _inside(crop, crop.others_xyxy), OTHERS_COLOR, 0.7)
    if crop.row["best_box"] is not None:
        outline_boxes(axes, _inside(crop, crop.row["best_box"]), ANSWER_COLOR, 1.6)
    outline_boxes(axes, _inside(crop, crop.row["box"]), TRUTH_COLOR, 1.4)
    axes.set_xlabel(_words(crop.row), fontsize=8)


def _inside(crop: Crop, boxes_xyxy: Any) -> npt.NDArray[Any]:
    """Boxes of the image on disk in pixels of the crop."""
    return np.asarray(boxes_xyxy, dtype=float).reshape(-1, 4) * (crop.scale_xy * 2) - crop.corner_xy * 2


def _words(row: dict[str, Any]) -> str:
    what = f"{row['class']}, {row['size_px']:.0f} px\nimage {row['image_id']}"
    if row["best_box"] is None:
        return f"{what}\nno answer near"
    return f"{what}\nIoU {row['best_iou']:.2f}: {row['best_class']} {row['best_score']:.2f}"
