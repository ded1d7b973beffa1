"""Pictures of batches show every box in its color, also one of 2 px."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_cases import sample_of
from PIL import Image

from smidgen.data import draw_samples
from smidgen.data.sample_pictures import class_color
from smidgen.structures import Classes, ImageBatch, Preprocessing


def test_small_boxes_and_regions_are_visible(tmp_path: Path) -> None:
    samples = [sample_of([[10, 10, 12, 12]], (40, 60)), sample_of([], (30, 30), ignore=[[0, 0, 20, 20]])]
    for sample in samples:
        sample.image.zero_()
    batch = ImageBatch.collate([sample.image for sample in samples])
    file = draw_samples(
        (batch, tuple(sample.target() for sample in samples)), Classes(("dot",), (1,)), tmp_path / "a.png"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png"]
    pixels = np.array(Image.open(file))
    grid = pixels[:-16]
    assert (grid == class_color(0)).all(axis=2).sum() >= 16
    assert (grid == 160).all(axis=2).sum() > 100
    red, green, _ = pixels[-16:].transpose(2, 0, 1).astype(int)
    assert (red - green > 100).any(), "the legend names the class in its color"


def test_normalized_batches_are_refused(tmp_path: Path) -> None:
    sample = sample_of([], (4, 4))
    batch = ImageBatch.collate([sample.image]).normalized(Preprocessing())
    with pytest.raises(ValueError, match="uint8"):
        draw_samples((batch, (sample.target(),)), Classes.numbered(1), tmp_path / "a.png")


def test_boxes_at_every_border_can_be_drawn(tmp_path: Path) -> None:
    boxes = [[0.0, 0.0, 0.1, 0.1], [19.9, 9.9, 20.0, 10.0], [0, 0, 20, 10]]
    sample = sample_of(boxes, (10, 20), ignore=boxes)
    file = draw_samples(
        (ImageBatch.collate([sample.image]), (sample.target(),)), Classes.numbered(3), tmp_path / "b.png"
    )
    assert torch.tensor(np.array(Image.open(file))).numel() > 0
