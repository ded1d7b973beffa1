"""Names for the outputs of an official model, whose labels are mostly the ids of its data set, gaps included."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from smidgen.structures import Classes

Labels = Literal["ids", "contiguous"]

NAMES_TENSOR = "_classes_"
"""Under this name the releases of Relation-DETR and Salience DETR keep the names of the classes."""

_BETWEEN_NAMES = -1
_LARGEST_CODE = 0x10FFFF


def output_classes(count: int, source: Classes | Path | str | None, labels: Labels = "ids") -> Classes:
    """Classes of `count` outputs; without a source they are numbered.

    source: finished classes, or a COCO json with categories. labels: output i stands for the category of id i ("ids",
    as the releases for COCO do: 91 outputs for 80 categories; outputs without category are named "unused i"), or for
    the i-th category by id ("contiguous").
    Errors: ValueError where the categories do not fit the outputs.
    """
    if isinstance(source, Classes):
        classes = source
    elif source is None:
        classes = Classes.numbered(count)
    else:
        classes = _of_categories(count, _categories(Path(source)), labels, source)
    if len(classes) != count:
        raise ValueError(f"expected classes for the {count} outputs of the checkpoint, got {len(classes)}")
    return classes


def classes_in_file(official: Mapping[str, Tensor], count: int) -> Classes | None:
    """Classes by the names that a file holds: codes of their characters, with -1 between two names.

    None where it holds none, or not one for each of `count` outputs.
    """
    codes = official.get(NAMES_TENSOR)
    if codes is None or codes.ndim != 1 or codes.is_floating_point() or not _are_codes(codes):
        return None
    text = "".join("\n" if code == _BETWEEN_NAMES else chr(code) for code in codes.tolist())
    names = text.split("\n")
    return Classes(tuple(names), tuple(range(count))) if len(names) == count and all(map(_is_name, names)) else None


def _is_name(text: str) -> bool:
    return bool(text) and text.isprintable()


def _are_codes(codes: Tensor) -> bool:
    return codes.numel() > 0 and bool(((codes >= _BETWEEN_NAMES) & (codes <= _LARGEST_CODE)).all())


def _of_categories(count: int, names: dict[int, str], labels: Labels, source: Path | str) -> Classes:
    if labels == "contiguous":
        return Classes(tuple(names[key] for key in sorted(names)), tuple(sorted(names)))
    beyond = [key for key in names if not 0 <= key < count]
    if beyond:
        raise ValueError(
            f"expected ids of categories from 0 to {count - 1} in {source}, as the checkpoint has {count} outputs, got "
            f"{beyond[0]}; if output i stands for the i-th category instead, say labels='contiguous'"
        )
    return Classes(tuple(names.get(index, f"unused {index}") for index in range(count)), tuple(range(count)))


def _categories(path: Path) -> dict[int, str]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        return {int(category["id"]): str(category["name"]) for category in content["categories"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"expected a COCO json with categories (id, name) at {path}, got {error!r}") from error
