"""Anybody's detections as COCO results: a COCO results json, the json of `smidgen predict`, or VisDrone's txt files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from smidgen.evaluation.entry_columns import column, identifiers, some
from smidgen.evaluation.json_document import read_json
from smidgen.evaluation.visdrone_files import read_visdrone_detections


@dataclass(frozen=True, slots=True)
class PredictionSource:
    """results: COCO results. layout: what was recognized, in words. notes: what was translated or left out."""

    results: list[dict[str, Any]]
    layout: str
    notes: tuple[str, ...] = ()


def open_predictions(path: Path, ground_truth: Mapping[str, Any]) -> PredictionSource:
    """The detections at `path`, with the image and category ids of the ground truth (COCO) where files name them.

    Raises ValueError where nothing known is found, or the file speaks of images that the ground truth does not have.
    """
    path = path.expanduser()
    if path.is_dir():
        return _visdrone(path, ground_truth)
    document = read_json(path)
    if isinstance(document, dict) and _predict_wrote(document.get("images")):
        return _predicted(document["images"], ground_truth, path)
    if _all_have(document, "image_id"):
        return _coco(document, ground_truth, path)
    found = f"keys {list(document)[:6]}" if isinstance(document, dict) else f"a {type(document).__name__}"
    raise ValueError(
        f"expected {path} to be a JSON list of COCO results (image_id, category_id, bbox, score), or what "
        f"`smidgen predict` writes (images with file and detections), got {found}"
    )


def _all_have(entries: Any, *keys: str) -> bool:
    return isinstance(entries, list) and all(
        isinstance(entry, dict) and all(key in entry for key in keys) for entry in entries
    )


def _predict_wrote(images: Any) -> bool:
    return _all_have(images, "file", "detections") and all(
        isinstance(image["file"], str) and isinstance(image["detections"], list) for image in images
    )


def _visdrone(folder: Path, ground_truth: Mapping[str, Any]) -> PredictionSource:
    results, others = read_visdrone_detections(folder, ground_truth["images"])
    notes = (f"{others} detections of categories other than 1 to 10 left out",) if others else ()
    return PredictionSource(results, f"VisDrone txt files in {folder}", notes)


def _coco(results: list[dict[str, Any]], ground_truth: Mapping[str, Any], path: Path) -> PredictionSource:
    """As they are; ids that the ground truth does not have are looked up among its names."""
    images = {image["id"] for image in ground_truth["images"]}
    by_file = _ids_by_name(ground_truth["images"])
    with_images = _translated(results, "image_id", images, by_file)
    ids = _class_ids(ground_truth)
    named = _translated(with_images, "category_id", set(ids.values()), ids)
    translated = {
        "image_id are file names": with_images is not results,
        "category_id are names of classes": named is not with_images,
    }
    notes = tuple(f"{note}: translated into ids" for note, done in translated.items() if done)
    return PredictionSource(named, f"COCO results {path}", notes)


def _translated(
    results: list[dict[str, Any]], key: str, known: set[Any], by_name: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The same list where all ids are known, or not all others are names; then scoring says which are wrong."""
    strangers = set(identifiers(results, key, "prediction")) - known
    ids = {value: by_name.get(str(value)) for value in strangers}
    if not strangers or None in ids.values():
        return results
    return [{**result, key: ids.get(result[key], result[key])} for result in results]


def _predicted(images: Sequence[Mapping[str, Any]], ground_truth: Mapping[str, Any], path: Path) -> PredictionSource:
    identity = _ids_by_name(ground_truth["images"])
    categories = _category_ids(images, ground_truth)
    owner = {image["file"]: _owner(image["file"], identity) for image in images}
    strangers = [file for file, identifier in owner.items() if identifier is None]
    if strangers:
        raise ValueError(
            f"{len(strangers)} files of {path} are no images of the ground truth (for example {strangers[0]!r}); "
            f"expected file names such as {next(iter(identity), 'none: it has no images')!r}"
        )
    found = [(owner[image["file"]], detection) for image in images for detection in image["detections"]]
    results = [
        {"image_id": image, "category_id": categories[_class_of(one)], "bbox": one["bbox"], "score": one["score"]}
        for image, one in found
        if _class_of(one) in categories
    ]
    known = _class_ids(ground_truth)
    by_number = [f"{name} = {number}" for (_, name), number in categories.items() if name not in known]
    notes = tuple(_notes(images, len(found) - len(results), by_number))
    return PredictionSource(results, f"predictions of smidgen {path}", notes)


def _notes(images: Sequence[Mapping[str, Any]], dropped: int, by_number: Sequence[str]) -> Iterator[str]:
    if by_number:
        yield f"no class name is one of the ground truth's; classes are taken by their numbers: {', '.join(by_number)}"
    unreadable = sum("error" in image for image in images)
    if unreadable:
        yield f"{unreadable} images could not be read when predicting: their objects count as missed"
    if dropped:
        yield f"{dropped} detections of classes that the ground truth does not have left out"


def _category_ids(images: Sequence[Mapping[str, Any]], ground_truth: Mapping[str, Any]) -> dict[tuple[Any, Any], int]:
    """(category_id, name) of the predictions -> category_id of the ground truth: by name where any name is known."""
    detections = [detection for image in images for detection in image["detections"]]
    for key in ("category_id", "bbox", "score"):
        column(detections, key, "detection")
    classes, ids = {_class_of(detection) for detection in detections}, _class_ids(ground_truth)
    named = {one: ids[one[1]] for one in classes if one[1] in ids}
    numbered = {one: one[0] for one in sorted(classes, key=str) if one[0] in ids.values()}
    if classes and not named and not numbered:
        raise ValueError(
            f"no class of the predictions ({some(name for _, name in classes)}) is one of the ground truth's "
            f"({some(ids)}), neither by name nor by number; rename them in one of the files"
        )
    return named or numbered


def _class_ids(ground_truth: Mapping[str, Any]) -> dict[str, int]:
    """Id by name of the ground truth's classes; the id in words where a class has no name, or one used before."""
    ids: dict[str, int] = {}
    for category in ground_truth["categories"]:
        name = str(category.get("name", category["id"]))
        ids[name if name not in ids else str(category["id"])] = category["id"]
    return ids


def _class_of(detection: Mapping[str, Any]) -> tuple[Any, Any]:
    return detection["category_id"], str(detection.get("category"))


def _ids_by_name(images: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Image id by file name, and by the shorter forms of it that only one image has."""
    forms = [(form, image["id"]) for image in images for form in _forms(str(image.get("file_name", image["id"])))]
    count = Counter(form for form, _ in forms)
    return {form: identifier for form, identifier in forms if count[form] == 1}


def _owner(file: str, identity: Mapping[str, Any]) -> Any:
    """The image whose file name shares the longest end with `file`; None where there is none."""
    parts = PurePath(file).parts
    ends = [str(PurePath(*parts[start:])) for start in range(len(parts))]
    return next((identity[form] for form in (*ends, *_forms(file)) if form in identity), None)


def _forms(file_name: str) -> list[str]:
    """The name as it stands, without its folders, and without its suffix: each once."""
    path = PurePath(file_name)
    return list(dict.fromkeys((file_name, path.name, path.stem)))
