"""The entries of a COCO file, whatever program wrote them: ids as text, sizes left out, numbers that are none."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from smidgen.data.dataset import ANY_CLASS
from smidgen.data.image_files import read_size_hw, shown
from smidgen.data.labels import Label, RawLabels, raw_labels
from smidgen.data.notes import Note
from smidgen.data.text_lines import legible
from smidgen.structures import Classes

_IGNORED_NAMES = frozenset({"ignore", "ignored", "ignored regions", "ignored-regions"})
_LARGEST_SIDE_PX = 2**31 - 1
# What JSON holds that can be an id; asking for Hashable or Mapping takes ten times longer, and files hold millions.
_IDENTITIES = (int, float, str)


def load(file: Path) -> dict[str, Any]:
    """The content of a file that lists images and categories; annotations may be missing. ValueError for others."""
    try:
        # surrogateescape: names in other encodings come through and still open their files.
        content = json.loads(file.read_bytes().decode("utf-8-sig", "surrogateescape"))
    except (json.JSONDecodeError, RecursionError) as error:
        reason = error if file.stat().st_size else "the file is empty (zero bytes)"
        raise ValueError(f"{shown(file)} is not valid JSON: {reason}") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{shown(file)} is not a COCO annotation file: expected an object with images, annotations and categories, "
            f"got a {type(content).__name__}, as files of results are; check the file"
        )
    content["annotations"] = content.get("annotations") or []
    missing = [key for key in ("images", "annotations", "categories") if not isinstance(content.get(key), list)]
    if missing:
        raise ValueError(
            f"{shown(file)} is not a COCO annotation file: expected lists in {', '.join(missing)}; check the file"
        )
    return content


def read_classes(file: Path, categories: Sequence[Mapping[str, Any]]) -> tuple[Classes, list[int]]:
    """Class indices follow the order of ids, so that all splits of a dataset agree; ids of ignore categories apart."""
    try:
        ordered = sorted((int(category["id"]), legible(str(category["name"]))) for category in categories)
        ignored = [identity for identity, name in ordered if name.strip().lower() in _IGNORED_NAMES]
        ordered = [entry for entry in ordered if entry[0] not in ignored]
        return Classes(tuple(name for _, name in ordered), tuple(identity for identity, _ in ordered)), ignored
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{shown(file)}: expected categories with a distinct integer id and a name ({error})"
        ) from error


def index_of_category(classes: Classes, ignored_ids: Iterable[int]) -> dict[Any, int]:
    """Class index (ANY_CLASS = ignored) by category id, also where a file writes ids as text."""
    indices = {identity: index for index, identity in enumerate(classes.ids)} | dict.fromkeys(ignored_ids, ANY_CLASS)
    return {**{str(identity): index for identity, index in indices.items()}, **indices}


def images_by_id(file: Path, images: Iterable[Any]) -> tuple[dict[Any, Mapping[str, Any]], list[Note]]:
    """Each image by its id; a second one with the same id is noted. ValueError where an id or a file name lacks."""
    by_id: dict[Any, Mapping[str, Any]] = {}
    notes = []
    for image in images:
        if (
            not isinstance(image, Mapping)
            or not isinstance(image.get("id"), int | float | str)
            or "file_name" not in image
        ):
            raise ValueError(f"{shown(file)}: expected an id and a file_name in every image, got {image!r:.200}")
        if image["id"] in by_id:
            notes.append(Note("duplicate_image", shown(str(image["file_name"])), f"id {image['id']}"))
        by_id.setdefault(image["id"], image)
    return by_id, notes


def annotations_by_image(
    file: Path, annotations: Iterable[Any], images: Mapping[Any, Any]
) -> tuple[dict[Any, list[Mapping[str, Any]]], list[Note]]:
    """The annotations of each image; those of no image are noted."""
    by_image: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    notes = []
    for annotation in annotations:
        image_id = annotation.get("image_id") if isinstance(annotation, dict) else None
        if not isinstance(annotation, dict):
            notes.append(Note("malformed_label", shown(file), f"annotation {annotation!r:.80}"))
        elif isinstance(image_id, _IDENTITIES) and image_id in images:
            by_image[image_id].append(annotation)
        else:
            detail = f"annotation {annotation.get('id')} of image {image_id!r:.80}"
            notes.append(Note("unknown_image", shown(file), detail))
    return by_image, notes


def size_hw(image: Mapping[str, Any], path: Path) -> tuple[int, int]:
    """(height, width) in px as stated, else from the file's header. Raises UnreadableImageError."""
    height, width = image.get("height"), image.get("width")
    return (int(height), int(width)) if _is_side(height) and _is_side(width) else read_size_hw(path)


def _is_side(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and 1 <= value <= _LARGEST_SIDE_PX


def read_labels(
    path: Path, annotations: Sequence[Mapping[str, Any]], index_of_id: Mapping[Any, int]
) -> tuple[RawLabels, list[Note]]:
    """The annotations of one image; what cannot be understood is noted. path: the image, named in notes."""
    labels, notes = [], []
    for annotation in annotations:
        category = annotation.get("category_id")
        index = index_of_id.get(category) if isinstance(category, _IDENTITIES) else None
        ignore = any(annotation.get(flag, 0) for flag in ("iscrowd", "ignore")) or index == ANY_CLASS
        box = _xyxy(annotation.get("bbox"))
        if box is None:
            notes.append(Note("malformed_label", shown(path), f"bbox {annotation.get('bbox')!r:.80}"))
        elif index is None and not ignore:
            notes.append(Note("unknown_category", shown(path), f"category_id {category!r:.80}"))
        else:
            labels.append(Label(box, ANY_CLASS if index is None else index, ignore, _number(annotation.get("area"))))
    return raw_labels(labels), notes


def _xyxy(bbox: Any) -> tuple[float, float, float, float] | None:
    try:
        x, y, width, height = (float("nan") if value is None else float(value) for value in bbox)
    except (TypeError, ValueError, OverflowError):  # OverflowError: a whole number of hundreds of digits
        return None
    return x, y, x + width, y + height


def _number(value: Any) -> float:
    try:
        return float(value) if isinstance(value, int | float) else float("nan")
    except OverflowError:
        return float("nan")
