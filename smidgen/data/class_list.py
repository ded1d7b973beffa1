"""Which classes a dataset has whose label files only mention some: a list beside them, a known list, or those found."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from smidgen.data.text_lines import legible, read_lines
from smidgen.structures import Classes

CLASS_LIST = "classes.txt"


def listed_names(folder: Path) -> tuple[str, ...]:
    """The lines of classes.txt in a folder; () where there is none."""
    file = folder / CLASS_LIST
    return tuple(legible(line.strip()) for line in read_lines(file)) if file.is_file() else ()


def classes_named(found: Collection[str], known: Sequence[Sequence[str]]) -> tuple[Classes, str]:
    """Classes with ids from 1, and where they come from.

    known: lists in the order of preference; the first that has all the names found decides their order and which
    classes nobody is labeled with. Where none has, the names found in alphabetical order.
    """
    for names in known:
        if names and set(found) <= set(names):
            return _numbered(names), f"{len(names)} classes"
    return _numbered(sorted(found)), f"the {len(found)} class names found, in alphabetical order"


def _numbered(names: Sequence[str]) -> Classes:
    return Classes(tuple(names), tuple(range(1, len(names) + 1)))
