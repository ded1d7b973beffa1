"""What a layout hands over: the splits it found at a path, why it thinks so, and how to read each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from smidgen.data.dataset import Record
from smidgen.data.notes import DatasetNotes
from smidgen.structures import Classes

SPLIT_ALIASES: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
# What VOC and AI-TOD call train and val together.
UNION = "trainval"


@dataclass(frozen=True, slots=True)
class SplitContents:
    """One split, read. remark: how the files were understood where they leave a choice ("" = they leave none)."""

    classes: Classes
    records: tuple[Record, ...]
    notes: DatasetNotes
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Recognized:
    """because: the files that gave the layout away. splits: name as found -> a function that reads it."""

    because: str
    splits: Mapping[str, Callable[[], SplitContents]]


def canonical_split(name: str) -> str:
    """train, val or test for their aliases in any case; other names as they are."""
    lowered = name.lower()
    return next((split for split, aliases in SPLIT_ALIASES.items() if lowered in aliases), name)


def without_union(names: Sequence[str]) -> list[str]:
    """Splits without trainval where train and val are there, too."""
    both = {"train", "val"} <= {canonical_split(name) for name in names}
    return [name for name in names if not (both and canonical_split(name) == UNION)]


def split_in_words(text: str) -> str | None:
    """The split that a file name speaks of ("instances_train2017" -> "train", "aitodv2_trainval" -> "trainval"), or
    None."""
    words = set(re.findall(r"[a-z]+", text.lower()))
    if UNION in words:
        return UNION
    return next((split for split, aliases in SPLIT_ALIASES.items() if words & set(aliases)), None)
