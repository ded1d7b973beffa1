"""COCO: one JSON file per split, and its images in a folder nearby (Lin et al., 2014; also as Roboflow exports it).

AI-TOD (annotations/aitodv2_trainval.json, images/trainval/) and SODA-D (Annotations/train.json, Images/) come like
this. A category named "ignore", as SODA-D has it, is no class: its boxes are ignore regions about any class. So are
regions that stand there once for every class, which is how COCO files say "any".
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from smidgen.data.dataset import ANY_CLASS, Record
from smidgen.data.image_files import UnreadableImageError, read_size_hw, shown
from smidgen.data.labels import Label, RawLabels, clean_record, joined_regions, raw_labels
from smidgen.data.notes import DatasetNotes, Note
from smidgen.data.recognized import UNION, Recognized, SplitContents, split_in_words
from smidgen.structures import Classes

EXPECTS = (
    "SPLIT/annotations.json with SPLIT/images/, or annotations/*.json with an images folder, "
    "or SPLIT/_annotations.coco.json beside its images (Roboflow), or such a JSON file itself"
)

_IGNORED_NAMES = frozenset({"ignore", "ignored", "ignored regions", "ignored-regions"})


def recognize(path: Path) -> Recognized | None:
    """The COCO splits of a folder or a JSON file; None where there are none."""
    files = _annotation_files(path)
    if not files:
        return None
    names = ", ".join(shown(file.relative_to(path)) if file != path else shown(file.name) for file in files.values())
    known = " (AI-TOD)" if any(file.stem.lower().startswith("aitod") for file in files.values()) else ""
    return Recognized(
        because=f"found {names}{known}", splits={name: partial(_read_split, file) for name, file in files.items()}
    )


def _annotation_files(path: Path) -> dict[str, Path]:
    """Annotation file by split name."""
    if path.is_file():
        return (
            {split_in_words(path.stem) or split_in_words(path.parent.name) or path.stem: path} if _is_json(path) else {}
        )
    for candidates in (_one_folder_per_split(path), _annotations_folder(path), _beside_images(path)):
        if candidates:
            return candidates
    return {}


def _is_json(path: Path) -> bool:
    return path.suffix.lower() == ".json"


def _one_folder_per_split(path: Path) -> dict[str, Path]:
    folders = sorted(folder for folder in path.iterdir() if folder.is_dir())
    names = ("annotations.json", "_annotations.coco.json")
    found = ((folder.name, folder / name) for folder in folders for name in names)
    return {split: file for split, file in found if file.is_file()}


def _annotations_folder(path: Path) -> dict[str, Path]:
    """annotations/instances_train2017.json, annotations/train.json ...; captions and keypoints stand back."""
    files = [file for file in sorted(path.glob("[aA]nnotations*/*.json")) if _looks_like_detection(file)]
    files.sort(key=lambda file: not file.stem.startswith("instances"))
    splits: dict[str, Path] = {}
    for file in files:
        splits.setdefault(split_in_words(file.stem) or file.stem, file)
    return splits


def _looks_like_detection(file: Path) -> bool:
    return not file.stem.startswith(("captions", "person_keypoints", "stuff", "panoptic"))


def _beside_images(path: Path) -> dict[str, Path]:
    """A folder that is one split itself."""
    file = next(
        (path / name for name in ("annotations.json", "_annotations.coco.json") if (path / name).is_file()), None
    )
    return {} if file is None else {split_in_words(path.name) or path.name: file}


def _read_split(file: Path) -> SplitContents:
    content = _load(file)
    classes, ignored_ids = _classes(file, content["categories"])
    images, notes = _images(file, content["images"])
    annotations, unknown = _by_image(file, content.get("annotations") or [], images)
    notes += unknown
    index_of_id = {identity: index for index, identity in enumerate(classes.ids)}
    index_of_id |= dict.fromkeys(ignored_ids, ANY_CLASS)
    records = []
    for image, path in _with_files(file, images.values(), notes):
        record, found = _record(image, path, annotations[image["id"]], index_of_id, len(classes))
        notes += found
        if record is not None:
            records.append(record)
    remark = "boxes of the category 'ignore' are read as ignore regions" if ignored_ids else ""
    return SplitContents(classes, tuple(records), DatasetNotes(tuple(notes)), remark)


def _load(file: Path) -> dict[str, Any]:
    try:
        # surrogateescape: names in other encodings come through and still open their files.
        content = json.loads(file.read_bytes().decode("utf-8-sig", "surrogateescape"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{shown(file)} is not valid JSON: {error}") from error
    missing = [
        key
        for key in ("images", "categories")
        if not isinstance(content, dict) or not isinstance(content.get(key), list)
    ]
    if missing:
        raise ValueError(f"{shown(file)} is not a COCO detection file: expected lists in {missing}; check the file")
    return content


def _classes(file: Path, categories: Sequence[Mapping[str, Any]]) -> tuple[Classes, list[int]]:
    """Class indices follow the order of ids, so that all splits of a dataset agree; ids of ignore categories apart."""
    try:
        ordered = sorted((int(category["id"]), str(category["name"])) for category in categories)
        ignored = [identity for identity, name in ordered if name.strip().lower() in _IGNORED_NAMES]
        ordered = [entry for entry in ordered if entry[0] not in ignored]
        return Classes(tuple(name for _, name in ordered), tuple(identity for identity, _ in ordered)), ignored
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{shown(file)}: expected categories with a distinct integer id and a name ({error})"
        ) from error


def _images(file: Path, images: Iterable[Any]) -> tuple[dict[Any, Mapping[str, Any]], list[Note]]:
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


def _by_image(
    file: Path, annotations: Iterable[Any], images: Mapping[Any, Any]
) -> tuple[dict[Any, list[Mapping[str, Any]]], list[Note]]:
    by_image: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    notes = []
    for annotation in annotations:
        image_id = annotation.get("image_id") if isinstance(annotation, Mapping) else None
        if not isinstance(annotation, Mapping):
            notes.append(Note("malformed_label", shown(file), f"annotation {annotation!r:.80}"))
        elif isinstance(image_id, Hashable) and image_id in images:
            by_image[image_id].append(annotation)
        else:
            detail = f"annotation {annotation.get('id')} of image {image_id}"
            notes.append(Note("unknown_image", shown(file), detail))
    return by_image, notes


def _with_files(
    file: Path, images: Iterable[Mapping[str, Any]], notes: list[Note]
) -> Iterator[tuple[Mapping[str, Any], Path]]:
    """Images whose file exists, with it; the others are noted."""
    listed = list(images)
    folder = _image_folder(file, [str(image["file_name"]) for image in listed])
    for image in listed:
        path = folder / str(image["file_name"])
        if path.is_file():
            yield image, path
        else:
            notes.append(Note("missing_image", shown(path)))


def _image_folder(file: Path, names: Sequence[str]) -> Path:
    """The folder near the annotation file that holds the images; judged by the first few of them."""
    candidates = list(_candidate_folders(file))
    probe = names[:8]
    if not probe:
        return candidates[0]
    best = max(candidates, key=lambda folder: sum((folder / name).is_file() for name in probe))
    if any((best / name).is_file() for name in names):
        return best
    tried = ", ".join(shown(folder) for folder in candidates)
    raise ValueError(
        f"none of the {len(names)} images of {shown(file)} exists, e.g. {shown(names[0])}; looked in {tried}"
    )


def _candidate_folders(file: Path) -> Iterator[Path]:
    split = split_in_words(file.stem)
    # "aitodv2_trainval.json" stands beside images/trainval, which also holds the images of "aitodv2_train.json".
    named = (file.stem.removeprefix("instances_"), split, file.stem.rpartition("_")[2], UNION)
    words = list(dict.fromkeys(word for word in named if word))
    for base in (file.parent, file.parent.parent):
        for images in (base / "images", base / "Images"):
            yield images
            for word in words:
                yield from (images / word, images / word / "images")
        yield base
        for word in words:
            yield from (base / word / "images", base / word)


def _record(
    image: Mapping[str, Any],
    path: Path,
    annotations: Sequence[Mapping[str, Any]],
    index_of_id: Mapping[Any, int],
    num_classes: int,
) -> tuple[Record | None, list[Note]]:
    try:
        size_hw = _size_hw(image, path)
    except UnreadableImageError as error:
        return None, [Note("unreadable_image", shown(path), error.reason)]
    raw, notes = _raw_labels(path, annotations, index_of_id)
    record, found = clean_record(path, image["id"], size_hw, joined_regions(raw, num_classes))
    return record, notes + found


def _size_hw(image: Mapping[str, Any], path: Path) -> tuple[int, int]:
    height, width = image.get("height"), image.get("width")
    if isinstance(height, int | float) and isinstance(width, int | float) and height >= 1 and width >= 1:
        return int(height), int(width)
    return read_size_hw(path)


def _raw_labels(
    path: Path, annotations: Sequence[Mapping[str, Any]], index_of_id: Mapping[Any, int]
) -> tuple[RawLabels, list[Note]]:
    labels, notes = [], []
    for annotation in annotations:
        category = annotation.get("category_id")
        index = index_of_id.get(category) if isinstance(category, Hashable) else None
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
    except (TypeError, ValueError):
        return None
    return x, y, x + width, y + height


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
