"""Sides of objects in pixels of the network input, and of the images on disk, from annotations alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_cases import IMAGES, write_coco

from smidgen.data import TiledDataset, TilingConfig, open_dataset
from smidgen.data.object_sizes import object_sides_px
from smidgen.structures import ObjectSizes, Preprocessing


def test_sides_are_those_that_the_network_sees(tmp_path: Path) -> None:
    dataset = open_dataset(write_coco(tmp_path))
    for image in (tmp_path / "train" / "images").iterdir():
        image.unlink()  # no image is read
    same = object_sides_px(dataset, Preprocessing(short_side=48, long_side=1000))
    # a.png is 64 x 48 with boxes of 2 x 2 and 30 x 20; b.png is 48 x 64 and its object fills it.
    assert same.tolist() == pytest.approx([2.0, 600**0.5, (48 * 64) ** 0.5])
    doubled = object_sides_px(dataset, Preprocessing(short_side=96, long_side=1000))
    assert doubled.tolist() == pytest.approx((2 * same).tolist())


def test_each_image_has_its_own_scale(tmp_path: Path) -> None:
    dataset = open_dataset(write_coco(tmp_path))
    large = replace(dataset.records[1], size_hw=(640, 480))  # the same box in ten times the image
    dataset = replace(dataset, records=(dataset.records[0], large))
    sides_px = object_sides_px(dataset, Preprocessing(short_side=48, long_side=1000))
    assert sides_px.tolist() == pytest.approx([2.0, 600**0.5, (48 * 64) ** 0.5 / 10])


def test_ignore_regions_and_empty_sets_have_no_sides(tmp_path: Path) -> None:
    dataset = open_dataset(write_coco(tmp_path))
    assert len(IMAGES["c.png"][2]) == 0
    region = replace(dataset.records[2], ignore_xyxy=np.array([[0, 0, 9, 9]], dtype=np.float32))
    assert object_sides_px(replace(dataset, records=(region,)), Preprocessing()).shape == (0,)
    assert object_sides_px(replace(dataset, records=()), Preprocessing()).shape == (0,)


def test_a_set_knows_how_long_its_objects_are_on_disk(tmp_path: Path) -> None:
    dataset = open_dataset(write_coco(tmp_path))
    expected = ObjectSizes(count=3, median_px=30.0, percentile_99_px=63.32, largest_px=64.0)
    assert dataset.object_sizes == expected
    assert TiledDataset(dataset, TilingConfig(size_px=16)).object_sizes == expected
    assert replace(dataset, records=()).object_sizes is None
