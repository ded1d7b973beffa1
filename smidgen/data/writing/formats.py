"""Splits of a dataset written in one of the formats; a format is one file like coco, and a line here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from smidgen.data.dataset import DetectionDataset
from smidgen.data.finished_folder import finished_folder
from smidgen.data.writing import coco, dota, visdrone, voc, widerperson, yolo
from smidgen.data.writing.contract import Format
from smidgen.data.writing.image_copies import ImageCopies, Progress
from smidgen.data.writing.shortfalls import Shortfall

FORMATS: Mapping[str, Format] = MappingProxyType(
    {"coco": coco, "yolo": yolo, "voc": voc, "visdrone": visdrone, "dota": dota, "widerperson": widerperson}
)


@dataclass(frozen=True, slots=True)
class Written:
    """What was written. copied, linked: numbers of images. shortfalls: what the format could not hold."""

    out: Path
    format: str
    copied: int
    linked: int
    shortfalls: tuple[Shortfall, ...]


def write_dataset(
    splits: DetectionDataset | Sequence[DetectionDataset],
    out: Path | str,
    format: str,
    *,
    link: bool = False,
    progress: Progress | None = None,
) -> Written:
    """Write splits of one dataset to a new folder; image files are copied, never encoded again.

    format: a key of FORMATS. link: hard links instead of copies where the file system allows them. progress: called
    with (images done, images in all). The folder appears when everything is in it. Errors: ValueError where `out` holds
    something, the format is unknown or cannot hold the classes, or splits do not belong together.
    """
    out = Path(out).expanduser()
    chosen = [splits] if isinstance(splits, DetectionDataset) else list(splits)
    _require_sensible(chosen, format)
    copies = ImageCopies(sum(map(len, chosen)), link, progress)
    with finished_folder(out) as folder:
        shortfalls = FORMATS[format].write(chosen, folder, copies)
    return Written(out, format, copies.copied, copies.linked, tuple(shortfalls))


def _require_sensible(splits: Sequence[DetectionDataset], format: str) -> None:
    if format not in FORMATS:
        raise ValueError(f"expected a format out of {', '.join(FORMATS)}, got {format!r}; change the format")
    names = [split.split for split in splits]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"expected splits with different names, got {names}; write them one at a time")
    if format != "coco" and any(split.classes != splits[0].classes for split in splits):
        raise ValueError(
            f"expected the same classes with the same ids in the splits {', '.join(names)}, since {format} has one "
            "list for all; write them one at a time, or as coco"
        )
