"""Anybody's detections as COCO results: a COCO results json, the json of `smidgen predict`, or VisDrone's txt files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

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
    if isinstance(document, dict) and _all_have(document.get("images"), "file", "detections"):
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


def _visdrone(folder: Path, ground_truth: Mapping[str, Any]) -> PredictionSource:
    results, others = read_visdrone_detections(folder, ground_truth["images"])
    notes = (f"{others} detections of categories other than 1 to 10 left out",) if others else ()
    return PredictionSource(results, f"VisDrone txt files in {folder}", notes)


def _coco(results: list[dict[str, Any]], ground_truth: Mapping[str, Any], path: Path) -> PredictionSource:
    """As they are; image ids that the ground truth does not have are looked up among its file names."""
    known = {image["id"] for image in ground_truth["images"]}
    if all(result["image_id"] in known for result in results):
        return PredictionSource(results, f"COCO results {path}")
    identity = _ids_by_name(ground_truth["images"])
    named = [
        result if result["image_id"] in known else {**result, "image_id": identity.get(str(result["image_id"]))}
        for result in results
    ]
    if any(result["image_id"] is None for result in named):
        return PredictionSource(results, f"COCO results {path}")  # scoring says which ids are unknown
    return PredictionSource(named, f"COCO results {path}", ("image_id are file names: translated into ids",))


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
    return PredictionSource(
        results, f"predictions of smidgen {path}", tuple(_losses(images, len(found) - len(results)))
    )


def _losses(images: Sequence[Mapping[str, Any]], dropped: int) -> Iterator[str]:
    unreadable = sum("error" in image for image in images)
    if unreadable:
        yield f"{unreadable} images could not be read when predicting: their objects count as missed"
    if dropped:
        yield f"{dropped} detections of classes that the ground truth does not have left out"


def _category_ids(images: Sequence[Mapping[str, Any]], ground_truth: Mapping[str, Any]) -> dict[tuple[Any, Any], int]:
    """(category_id, name) of the predictions -> category_id of the ground truth: by name where any name is known."""
    classes = {_class_of(detection) for image in images for detection in image["detections"]}
    ids = {str(category.get("name")): int(category["id"]) for category in ground_truth["categories"]}
    named = {one: ids[one[1]] for one in classes if one[1] in ids}
    return named or {one: one[0] for one in classes}


def _class_of(detection: Mapping[str, Any]) -> tuple[Any, Any]:
    return detection["category_id"], detection.get("category")


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
