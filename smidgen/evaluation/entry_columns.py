"""Columns of lists of JSON objects that somebody else wrote: each is read at once, and what is wrong is named.

Files hold millions of detections, so an entry is looked at for itself only once reading all of them has failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

Entries = Sequence[Mapping[str, Any]]
# What Python makes of values that are no numbers, or of numbers too large for one.
NOT_NUMBERS = (TypeError, ValueError, OverflowError)
_REMEDIES = {
    "prediction": "do both belong to the same split?",
    "annotation": "list it there, or leave the annotations out (regions about no class are marked iscrowd: 1)",
}


def column(entries: Entries, key: str, what: str) -> list[Any]:
    """The value of every entry. what: one of them, in words. ValueError where an entry lacks it or is no object."""
    try:
        return [entry[key] for entry in entries]
    except (KeyError, TypeError, IndexError):
        return [_value(entry, key, what) for entry in entries]


def identifiers(entries: Entries, key: str, what: str) -> list[Any]:
    """The same, of numbers or strings."""
    values = column(entries, key, what)
    # Few types stand for many values.
    wrong = {kind for kind in set(map(type, values)) if not issubclass(kind, int | str | float)}
    if wrong:
        first = next(value for value in values if type(value) in wrong)
        raise ValueError(f"expected every {what}'s {key} to be a number or a string, got {first!r}")
    return values


def numbers(entries: Entries, key: str, what: str) -> Float[NDArray[np.float64], " N"]:
    """The same, as numbers; NaN and infinity are numbers, null is NaN."""
    values = column(entries, key, what)
    try:
        return np.array(values, dtype=np.float64).reshape(len(values))
    except NOT_NUMBERS:
        wrong = next((value for value in values if value is not None and not _is_number(value)), values)
        raise ValueError(f"expected every {what}'s {key} to be a number, got {_short(wrong)}") from None


def boxes(entries: Entries, what: str) -> Float[NDArray[np.float64], "N 4"]:
    """The same of `bbox`, four numbers x, y, width, height."""
    values = column(entries, "bbox", what)
    try:
        if set(map(len, values)) - {4}:
            raise ValueError
        return np.fromiter(chain.from_iterable(values), dtype=np.float64, count=4 * len(values)).reshape(-1, 4)
    except NOT_NUMBERS:
        wrong = next((box for box in values if not _is_box(box)), values)
        raise ValueError(
            f"expected every {what}'s bbox as [x, y, width, height] in pixels, got {_short(wrong)}"
        ) from None


def indices(entries: Entries, key: str, known: Sequence[int | str], what: str) -> Int[NDArray[np.int64], " N"]:
    """Where each entry's value stands among the known ones. ValueError naming those that are not known."""
    place = {value: position for position, value in enumerate(known)}
    values = identifiers(entries, key, what)
    unknown = set(values) - place.keys()
    if unknown:
        raise ValueError(
            f"{len(unknown)} {key} of the {what}s not in the ground truth ({some(unknown)}); "
            f"expected {key} such as {some(known) or 'none at all'}: {_REMEDIES.get(what, 'is it the right file?')}"
        )
    return np.fromiter(map(place.__getitem__, values), dtype=np.int64, count=len(values))


def sorted_identifiers(values: Iterable[Any]) -> list[Any]:
    """Numbers, then strings."""
    return sorted(values, key=lambda value: (isinstance(value, str), value))


def some(values: Iterable[Any]) -> str:
    """The first five in words."""
    listed = sorted_identifiers(values)
    return ", ".join(repr(value) for value in listed[:5]) + (", ..." if len(listed) > 5 else "")


def _value(entry: Any, key: str, what: str) -> Any:
    if not isinstance(entry, Mapping):
        raise ValueError(f"expected every {what} to be a JSON object, got {_short(entry)}")
    if key not in entry:
        raise ValueError(f"expected every {what} to have {key!r}, got {_short(dict(entry))}")
    return entry[key]


def _is_box(box: Any) -> bool:
    return isinstance(box, Sequence) and len(box) == 4 and all(_is_number(value) for value in box)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except NOT_NUMBERS:
        return False
    return True


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
