"""Class names for formats that know a class by its name: one line, without what the format forbids, no two alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from smidgen.data.class_list import CLASS_LIST
from smidgen.data.image_files import shown
from smidgen.data.text_lines import write_lines
from smidgen.structures import Classes


def one_line(name: str) -> str:
    """Printable, runs of blanks as one."""
    return " ".join(shown(name).split()) or "class"


def written_names(classes: Classes, allowed: Callable[[str], str] = one_line) -> tuple[str, ...]:
    """A name for each class. allowed: turns any text into a name that the format allows."""
    names: list[str] = []
    for name, identity in zip(classes.names, classes.ids, strict=True):
        wanted = allowed(name)
        while wanted in names:
            wanted = allowed(f"{wanted}-{identity}")
        names.append(wanted)
    return tuple(names)


def write_class_list(out: Path, names: tuple[str, ...]) -> None:
    """classes.txt: the order of the classes, and those that no box has."""
    write_lines(out / CLASS_LIST, names)
