"""Pasted objects arrive whole, with their label, where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dataset_cases import sample_of
from torchvision.ops import box_iou

from smidgen.data import Augmentation
from smidgen.data.copy_paste import paste_small_objects
from smidgen.data.sample import Sample

SETTINGS = Augmentation(copy_paste=1.0, copy_paste_largest_px=10, copy_paste_difference=0.1)


def plain(boxes: list[list[float]], size_hw: tuple[int, int] = (80, 80)) -> Sample:
    """Gray, with every object white."""
    sample = sample_of(boxes, size_hw)
    sample.image.fill_(100)
    for x0, y0, x1, y1 in sample.boxes_xyxy.int().tolist():
        sample.image[:, y0:y1, x0:x1] = 255
    return sample


@pytest.mark.parametrize("seed", range(10))
def test_copies_are_whole_and_overlap_nothing(seed: int) -> None:
    sample = plain([[10, 10, 16, 14], [40, 40, 70, 70]])
    before = sample.image.clone()
    pasted = paste_small_objects(sample, sample, SETTINGS, np.random.default_rng(seed))
    assert torch.equal(sample.image, before), "the source stays"
    added = pasted.boxes_xyxy[2:]
    assert len(added) >= 1
    assert bool((pasted.labels[2:] == 0).all()), "only the small one is pasted"
    for x0, y0, x1, y1 in added.int().tolist():
        assert (x1 - x0, y1 - y0) == (6, 4)
        assert bool((pasted.image[:, y0:y1, x0:x1] == 255).all())
    overlaps = box_iou(pasted.boxes_xyxy, pasted.boxes_xyxy).fill_diagonal_(0)
    assert float(overlaps.max()) == 0


@pytest.mark.parametrize(
    "boxes",
    [[], [[10, 10, 40, 40]], [[0, 10, 5, 15]], [[10, 10, 15, 15], [15, 10, 20, 15]]],
    ids=["no object", "large", "at the border", "touching another"],
)
def test_what_is_not_pasted(boxes: list[list[float]]) -> None:
    sample = plain(boxes)
    assert paste_small_objects(sample, sample, SETTINGS, np.random.default_rng(0)) is sample


def test_unlike_surroundings_and_full_images_take_nothing() -> None:
    source, dark, full = plain([[10, 10, 15, 15]]), plain([]), plain([[0, 0, 80, 80]])
    dark.image.zero_()
    assert len(paste_small_objects(dark, source, SETTINGS, np.random.default_rng(0)).labels) == 0
    assert len(paste_small_objects(full, source, SETTINGS, np.random.default_rng(0)).labels) == 1
    assert len(paste_small_objects(plain([], (4, 4)), source, SETTINGS, np.random.default_rng(0)).labels) == 0


def test_ignore_regions_are_left_alone() -> None:
    source = plain([[10, 10, 15, 15]])
    region = sample_of([], (80, 80), ignore=[[0, 0, 80, 80]])
    region.image.fill_(100)
    assert len(paste_small_objects(region, source, SETTINGS, np.random.default_rng(0)).labels) == 0
