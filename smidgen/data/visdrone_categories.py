"""VisDrone's categories by number, as in its txt files; apart from their reader, so that scoring needs no torch."""

from __future__ import annotations

CATEGORY_NAMES = (
    "pedestrian",
    "people",
    "bicycle",
    "car",
    "van",
    "truck",
    "tricycle",
    "awning-tricycle",
    "bus",
    "motor",
)
# Of CATEGORY_NAMES, in their order; 11 is "others", which nobody judges.
CATEGORIES = range(1, 11)
# Of a row that is no object, but a place where nothing is judged.
IGNORED_REGION = 0
