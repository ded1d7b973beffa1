"""Boxes that are there twice, contradict each other, fill the image or can hardly be seen: one finding per image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from smidgen.data.checks.findings import Finding
from smidgen.data.dataset import Record
from smidgen.data.image_files import shown

LARGE_SHARE = 0.9  # of the image's area
TINY_SIDE_PX = 2.0
SAME_PX = 0.01  # borders nearer than this are the same


def box_findings(records: Sequence[Record]) -> Iterator[Finding]:
    """Suspicious boxes of each record. Ignore regions may be of any size and overlap as they like."""
    for record in records:
        if len(record) == 0:
            continue
        for kind, which, why in _suspicions(record):
            if which.any():
                first = " ".join(f"{side:g}" for side in record.boxes_xyxy[int(np.argmax(which))])
                yield Finding(
                    kind,
                    shown(record.file),
                    f"{int(which.sum())} of {len(record)} boxes {why}, first x0 y0 x1 y1 = {first}",
                )


def repeated_boxes(record: Record) -> npt.NDArray[np.bool_]:
    """True for each box that repeats an earlier one of the same class."""
    return _repeats(np.column_stack([_rounded(record), record.labels]))


def _suspicions(record: Record) -> Iterator[tuple[str, npt.NDArray[np.bool_], str]]:
    sides = record.boxes_xyxy[:, 2:].astype(np.float64) - record.boxes_xyxy[:, :2]
    share = sides.prod(axis=1) / (record.size_hw[0] * record.size_hw[1])
    repeated = repeated_boxes(record)
    yield "duplicate_box", repeated, "at the place of another of the same class"
    yield "conflicting_box", _repeats(_rounded(record)) & ~repeated, "at the place of one of another class"
    yield "large_box", share >= LARGE_SHARE, f"over {LARGE_SHARE:.0%} of the image or more"
    yield "tiny_box", sides.min(axis=1) < TINY_SIDE_PX, f"with a side below {TINY_SIDE_PX:g} px"


def _rounded(record: Record) -> npt.NDArray[np.int64]:
    return np.round(record.boxes_xyxy.astype(np.float64) / SAME_PX).astype(np.int64)


def _repeats(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """True for each row that was there before."""
    repeated = np.ones(len(rows), dtype=np.bool_)
    if len(rows):
        repeated[np.unique(rows, axis=0, return_index=True)[1]] = False
    return repeated
