"""Tables of objects made by hand or by hypothesis, for the tests of statistics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from smidgen.data.dataset import DetectionDataset, Record
from smidgen.data.statistics.object_table import ObjectTable
from smidgen.structures import Classes

Boxes = Sequence[Sequence[float]]


def dataset_of(
    images: Sequence[Boxes], size_hw: tuple[int, int] = (100, 200), labels: Sequence[Sequence[int]] | None = None
) -> DetectionDataset:
    """One record per list of boxes (xyxy px); two classes."""
    records = [
        Record(
            Path(f"{number}.png"),
            number,
            size_hw,
            np.array(boxes, dtype=np.float32).reshape(-1, 4),
            np.array(labels[number] if labels else [0] * len(boxes), dtype=np.int64),
            np.zeros((0, 4), dtype=np.float32),
        )
        for number, boxes in enumerate(images)
    ]
    return DetectionDataset(Path("planted"), "made by hand", "train", Classes(("car", "boat"), (1, 2)), records)


def table_of(
    images: Sequence[Boxes], size_hw: tuple[int, int] = (100, 200), labels: Sequence[Sequence[int]] | None = None
) -> ObjectTable:
    return ObjectTable.of(dataset_of(images, size_hw, labels))


@st.composite
def _box(draw: st.DrawFn) -> tuple[float, float, float, float]:
    x, y = draw(st.integers(0, 180)), draw(st.integers(0, 80))
    return x, y, x + draw(st.integers(1, 20)), y + draw(st.integers(1, 20))


@st.composite
def _tables(draw: st.DrawFn) -> ObjectTable:
    images = draw(st.lists(st.lists(_box(), max_size=12), max_size=4))
    return table_of(
        images, labels=[draw(st.lists(st.integers(0, 1), min_size=len(b), max_size=len(b))) for b in images]
    )


tables = _tables()
