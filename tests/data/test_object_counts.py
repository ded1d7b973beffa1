"""Counts of objects per image against query budgets."""

from __future__ import annotations

from pathlib import Path

import pytest
from dataset_cases import write_coco

from smidgen.data import objects_per_image, open_dataset


def test_objects_per_image(tmp_path: Path) -> None:
    counts = objects_per_image(open_dataset(write_coco(tmp_path)))
    assert counts.counts.tolist() == [2, 1, 0]
    assert counts.mean == 1
    assert counts.maximum == 2
    assert counts.quantile(0.5) == 1
    assert counts.images_above(1) == 1
    assert counts.recall_limit(1) == pytest.approx(2 / 3)
    assert counts.recall_limit(2) == 1
