from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from smidgen.data.sample_pictures import class_color
from smidgen.inference import draw_detections
from smidgen.structures import Detections


def detections(*boxes: tuple[float, float, float, float], labels: list[int] | None = None) -> Detections:
    return Detections(
        boxes_xyxy=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.linspace(0.9, 0.5, len(boxes)),
        labels=torch.tensor(labels or [0] * len(boxes), dtype=torch.long),
        image_hw=(100, 100),
        class_names=("car", "truck"),
    )


def test_a_tiny_object_is_framed_not_covered() -> None:
    image = Image.new("RGB", (700, 700), (9, 9, 9))
    image.paste((50, 60, 70), (20, 30, 23, 33))
    pixels = np.asarray(draw_detections(image, detections((20, 30, 23, 33)), legend=False))
    assert (pixels[30:33, 20:23] == (50, 60, 70)).all()
    frame = np.concatenate([pixels[29, 19:24], pixels[33, 19:24], pixels[29:34, 19], pixels[29:34, 23]])
    assert (frame == class_color(0)).all()


def test_small_pictures_are_enlarged_and_the_original_is_untouched() -> None:
    image = Image.new("RGB", (100, 50))
    drawn = draw_detections(image, detections((10, 10, 14, 14)), legend=False)
    assert drawn.size == (700, 350)
    assert not np.asarray(image).any()


def test_legend_names_the_classes_found() -> None:
    image = Image.new("RGB", (700, 100))
    both = np.asarray(draw_detections(image, detections((10, 10, 14, 14), (40, 10, 60, 30), labels=[0, 1])))[100:]
    one = np.asarray(draw_detections(image, detections((10, 10, 14, 14))))[100:]
    assert (both == class_color(1)).all(axis=-1).any()
    assert not (one == class_color(1)).all(axis=-1).any()
    assert (one == class_color(0)).all(axis=-1).any()


def test_insets_show_the_smallest_objects_enlarged() -> None:
    image = Image.new("RGB", (640, 480), (9, 9, 9))
    image.paste((0, 0, 255), (600, 400, 604, 404))
    drawn = draw_detections(image, detections((10, 10, 300, 300), (600, 400, 604, 404)), insets=2, legend=False)
    assert drawn.width > 640 and drawn.height == 480
    inset = np.asarray(drawn)[:, 640:]
    assert (inset == (0, 0, 255)).all(axis=-1).sum() > 4 * 16


@pytest.mark.parametrize("size_wh", [(1, 1), (1, 900), (5000, 1)])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA"])
def test_any_picture_can_be_drawn_on(size_wh: tuple[int, int], mode: str) -> None:
    drawn = draw_detections(Image.new(mode, size_wh), detections((0, 0, 1, 1)), insets=1)
    assert drawn.mode == "RGB" and drawn.width >= size_wh[0]


def test_nothing_found_is_said() -> None:
    assert draw_detections(Image.new("RGB", (640, 640)), detections()).height > 640
