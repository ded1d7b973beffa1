"""VisDrone's folders of txt files as COCO-style dictionaries, and detections back into such files.

Zhu et al., "Detection and Tracking Meet Drones Challenge", TPAMI 2021; a file per image, a row per box: x, y, width,
height in pixels, score, category, truncation, occlusion. In annotations a score of 0 means "not to be judged", category
0 an ignored region, 11 "others", which no protocol looks at: those rows are left out. In detections the last two
columns are -1. Images are known by their file's name without suffix, since the txt files know no other id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any

from smidgen.checkpoints.atomic_write import write_folder_atomically
from smidgen.data.visdrone_categories import CATEGORIES, CATEGORY_NAMES, IGNORED_REGION

Row = tuple[float, ...]

_SCORE, _CATEGORY = 4, 5
_COLUMNS = 6  # truncation and occlusion, which may be missing, stay zero


def visdrone_folder(path: Path) -> Path | None:
    """The folder of VisDrone txt files at `path`, or in its annotations/; None where there is none."""
    for folder in (path, path / "annotations"):
        files = sorted(folder.glob("*.txt")) if folder.is_dir() else []
        # The first file that holds a row tells it from other layouts of txt files: YOLO's are separated by spaces.
        first = next((line for file in files[:50] for line in _lines(file)), None)
        if files and (first is None or first.count(",") >= _COLUMNS - 1):
            return folder
    return None


def read_visdrone_ground_truth(folder: Path) -> dict[str, Any]:
    """COCO ground truth of a folder of annotations; image ids are the files' names without suffix.

    Rows of category 0 are regions about no category, rows of score 0 crowds of theirs (iscrowd = 1 both). Sizes of the
    images are there where an images/ folder stands beside the annotations. Errors: ValueError naming file and line.
    """
    files = _txt_files(folder)
    annotations = [entry for file in files for entry in _annotations(file)]
    return {
        "images": [_image(file, folder.parent / "images") for file in files],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, start=1)],
        "categories": [{"id": index, "name": name} for index, name in zip(CATEGORIES, CATEGORY_NAMES, strict=True)],
    }


def read_visdrone_detections(folder: Path, images: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """COCO results of a folder of detections, in the files' order; and how many rows were of no category from 1 to 10.

    images: COCO images; a txt file belongs to the one of its name. Errors: ValueError where it belongs to none.
    """
    identity = {_stem(image): image["id"] for image in images}
    files = _txt_files(folder)
    strangers = [file.name for file in files if file.stem not in identity]
    if strangers:
        raise ValueError(
            f"{len(strangers)} files of {folder} belong to no image of the ground truth (for example "
            f"{strangers[0]}); expected names such as {next(iter(identity), 'none: it has no images')}.txt"
        )
    rows = [(identity[file.stem], row) for file in files for row in read_rows(file)]
    judged = [_result(image, row) for image, row in rows if row[_CATEGORY] in CATEGORIES]
    return judged, len(rows) - len(judged)


def write_visdrone_detections(
    folder: Path, results: Iterable[Mapping[str, Any]], images: Sequence[Mapping[str, Any]]
) -> None:
    """One txt file for each image, best score first, as VisDrone's server and toolkit want them.

    Errors: OSError, and then nothing is changed.
    """
    rows: dict[Any, list[Row]] = defaultdict(list)
    for result in sorted(results, key=lambda entry: -entry["score"]):
        rows[result["image_id"]].append((*result["bbox"], result["score"], result["category_id"], -1, -1))

    def write(partial: Path) -> None:
        for image in images:
            lines = (",".join(f"{value:.6g}" for value in row) for row in rows.get(image["id"], ()))
            (partial / f"{_stem(image)}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="ascii")

    write_folder_atomically(folder, write)


def read_rows(file: Path) -> list[Row]:
    """x, y, width, height, score, category and, where they are, truncation and occlusion. ValueError naming a line."""
    return [_row(file, number, line) for number, line in enumerate(_lines(file), start=1)]


def _lines(file: Path) -> list[str]:
    # Numbers are the same in every encoding but UTF-16; a byte order mark is none.
    return [line for line in file.read_bytes().decode("utf-8-sig", "replace").splitlines() if line.strip()]


def _row(file: Path, number: int, line: str) -> Row:
    try:
        row = tuple(float(value) for value in line.strip().strip(",").split(","))
    except ValueError:
        row = ()
    if len(row) < _COLUMNS:
        raise ValueError(
            f"expected x,y,width,height,score,category in row {number} of {file}, got {line.strip()[:80]!r}"
        )
    return row


def _txt_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise ValueError(f"expected VisDrone txt files, one for each image, in {folder}, found none")
    return files


def _annotations(file: Path) -> list[dict[str, Any]]:
    rows = read_rows(file)
    return [_annotation(file.stem, row) for row in rows if row[_CATEGORY] in (IGNORED_REGION, *CATEGORIES)]


def _annotation(image: str, row: Row) -> dict[str, Any]:
    category = int(row[_CATEGORY])
    return {
        "image_id": image,
        "category_id": category,
        "bbox": list(row[:4]),
        "area": row[2] * row[3],
        "iscrowd": int(category == IGNORED_REGION or row[_SCORE] == 0),
        **{name: int(value) for name, value in zip(("truncation", "occlusion"), row[_COLUMNS:8], strict=False)},
    }


def _result(image: Any, row: Row) -> dict[str, Any]:
    return {"image_id": image, "category_id": int(row[_CATEGORY]), "bbox": list(row[:4]), "score": row[_SCORE]}


def _image(file: Path, images: Path) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": file.stem, "file_name": f"{file.stem}.jpg"}
    if not images.is_dir():
        return entry
    # Pictures need torch, which scoring txt files alone does not.
    from smidgen.data.image_files import IMAGE_SUFFIXES, UnreadableImageError, read_size_hw

    places = (images / f"{file.stem}{suffix}" for suffix in sorted(IMAGE_SUFFIXES))
    for picture in filter(Path.is_file, places):
        # A broken picture is judged like one that is not there.
        with suppress(UnreadableImageError):
            height, width = read_size_hw(picture)
            return {**entry, "file_name": picture.name, "height": height, "width": width}
    return entry


def _stem(image: Mapping[str, Any]) -> str:
    return PurePath(str(image.get("file_name", image["id"]))).stem
