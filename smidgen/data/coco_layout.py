"""COCO: one JSON file per split, and its images in a folder nearby (Lin et al., 2014; also as Roboflow exports it).

AI-TOD (annotations/aitodv2_trainval.json, images/trainval/) and SODA-D (Annotations/train.json, Images/) come like
this. A category named "ignore", as SODA-D has it, is no class: its boxes are ignore regions about any class. So are
regions that stand there once for every class, which is how COCO files say "any".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from smidgen.data import coco_entries
from smidgen.data.image_files import UnreadableImageError, shown
from smidgen.data.labels import RawRecord, clean_records, joined_regions
from smidgen.data.notes import DatasetNotes, Note
from smidgen.data.recognized import UNION, Recognized, SplitContents, split_in_words

EXPECTS = (
    "SPLIT/annotations.json with SPLIT/images/, or annotations/*.json with an images folder, "
    "or SPLIT/_annotations.coco.json beside its images (Roboflow), or such a JSON file itself"
)


def recognize(path: Path) -> Recognized | None:
    """The COCO splits of a folder or a JSON file; None where there are none."""
    files = annotation_files(path)
    if not files:
        return None
    names = ", ".join(shown(file.relative_to(path)) if file != path else shown(file.name) for file in files.values())
    known = " (AI-TOD)" if any(file.stem.lower().startswith("aitod") for file in files.values()) else ""
    return Recognized(
        because=f"found {names}{known}", splits={name: partial(_read_split, file) for name, file in files.items()}
    )


def annotation_files(path: Path) -> dict[str, Path]:
    """Annotation file by split name, {} where there are none."""
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
    content = coco_entries.load(file)
    classes, ignored_ids = coco_entries.read_classes(file, content["categories"])
    images, notes = coco_entries.images_by_id(file, content["images"])
    annotations, unknown = coco_entries.annotations_by_image(file, content["annotations"], images)
    notes += unknown
    indices = coco_entries.index_of_category(classes, ignored_ids)
    described = []
    for image, path in _with_files(file, images.values(), notes):
        one, found = _described(image, path, annotations[image["id"]], indices, len(classes))
        notes += found
        described += one
    records, mended = clean_records(described)
    remark = "boxes of the category 'ignore' are read as ignore regions" if ignored_ids else ""
    return SplitContents(classes, tuple(records), DatasetNotes((*notes, *mended)), remark)


def _with_files(
    file: Path, images: Iterable[Mapping[str, Any]], notes: list[Note]
) -> Iterator[tuple[Mapping[str, Any], Path]]:
    """Images whose file exists, with it; the others are noted."""
    listed = list(images)
    folder = _image_folder(file, [str(image["file_name"]) for image in listed])
    for image in listed:
        path = folder / str(image["file_name"])
        if _is_file(path):
            yield image, path
        else:
            notes.append(Note("missing_image", shown(path)))


def _image_folder(file: Path, names: Sequence[str]) -> Path:
    """The folder near the annotation file that holds the images; judged by the first few of them."""
    candidates = list(_candidate_folders(file))
    probe = names[:8]
    if not probe:
        return candidates[0]
    best = max(candidates, key=lambda folder: sum(_is_file(folder / name) for name in probe))
    if any(_is_file(best / name) for name in names):
        return best
    tried = ", ".join(shown(folder) for folder in candidates if folder.is_dir())
    raise ValueError(
        f"none of the {len(names)} images of {shown(file)} exists, e.g. {shown(names[0])}; looked in {tried}; put them "
        f"into {shown(file.parent / 'images')}, for example"
    )


def _is_file(path: Path) -> bool:
    """False also for names that no file system takes, such as those that are too long."""
    try:
        return path.is_file()
    except OSError:
        return False


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


def _described(
    image: Mapping[str, Any],
    path: Path,
    annotations: Sequence[Mapping[str, Any]],
    indices: Mapping[Any, int],
    num_classes: int,
) -> tuple[list[RawRecord], list[Note]]:
    """The image with its annotations; none where its size is not known."""
    try:
        size_hw = coco_entries.size_hw(image, path)
    except UnreadableImageError as error:
        return [], [Note("unreadable_image", shown(path), error.reason)]
    raw, notes = coco_entries.read_labels(path, annotations, indices)
    return [RawRecord(path, image["id"], size_hw, joined_regions(raw, num_classes))], notes
