"""Opening a dataset whose layout is recognized or named; a new layout is one file like coco_layout, and a line here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from smidgen.data import coco_layout, dota_layout, visdrone_layout, voc_layout, widerperson_layout, yolo_layout
from smidgen.data.dataset import DetectionDataset
from smidgen.data.image_files import shown
from smidgen.data.recognized import Recognized, canonical_split


class Layout(Protocol):
    """EXPECTS: the files it looks for, in words. recognize: the splits at a path, or None."""

    EXPECTS: str

    def recognize(self, path: Path) -> Recognized | None: ...


# Tried in this order.
LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "coco": coco_layout,
        "yolo": yolo_layout,
        "voc": voc_layout,
        "visdrone": visdrone_layout,
        "dota": dota_layout,
        "widerperson": widerperson_layout,
    }
)


def open_dataset(path: Path | str, split: str | None = None, layout: str | None = None) -> DetectionDataset:
    """One split of the dataset at `path` (a folder, a COCO JSON file or a YOLO data.yaml).

    split: train, val, test or any name found there (valid and validation mean val); needed where there are several.
    layout: a key of LAYOUTS; None recognizes it. Raises ValueError where nothing fits, naming what was tried and found.
    """
    folder = Path(path).expanduser()
    name, recognized = recognize(folder, layout)
    found = _choose_split(folder, recognized, split)
    contents = recognized.splits[found]()
    if not contents.records:
        problems = "; ".join(contents.notes.lines()) or "it lists none"
        raise ValueError(f"the split {found!r} of {shown(folder)} has no usable images: {problems}")
    text = f"{name} layout: {recognized.because}" + (f"; {contents.remark}" if contents.remark else "")
    return DetectionDataset(folder, text, canonical_split(found), contents.classes, contents.records, contents.notes)


def split_names(path: Path | str, layout: str | None = None) -> list[str]:
    """The splits of a dataset as its files call them; ValueError where nothing fits, as `open_dataset` says it."""
    return list(recognize(Path(path).expanduser(), layout)[1].splits)


def recognize(path: Path, layout: str | None = None) -> tuple[str, Recognized]:
    """Key of LAYOUTS and the splits found; ValueError where nothing fits."""
    if not path.exists():
        raise ValueError(
            f"there is no dataset at {shown(path)}: expected a folder or an annotation file; check the path"
        )
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"expected a layout out of {', '.join(LAYOUTS)}, got {layout!r}; change layout=")
    for name in [layout] if layout else LAYOUTS:
        recognized = LAYOUTS[name].recognize(path)
        if recognized is not None:
            return name, recognized
    raise ValueError(_nothing_fits(path, [layout] if layout else list(LAYOUTS)))


def _nothing_fits(path: Path, tried: Iterable[str]) -> str:
    expected = "\n".join(f"  {name}: {LAYOUTS[name].EXPECTS}" for name in tried)
    return f"no known dataset layout at {shown(path)}. Tried:\n{expected}\nFound: {_listing(path)}"


def _listing(path: Path) -> str:
    if path.is_file():
        return f"a file {shown(path.name)}"
    entries = sorted(path.iterdir())
    names = [shown(entry.name) + ("/" if entry.is_dir() else "") for entry in entries[:12]]
    return ", ".join(names) + (f" and {len(entries) - 12} more" if len(entries) > 12 else "") or "an empty folder"


def _choose_split(path: Path, recognized: Recognized, split: str | None) -> str:
    found = list(recognized.splits)
    if split is None:
        if len(found) == 1:
            return found[0]
        raise ValueError(f"{shown(path)} has the splits {', '.join(found)}: say which one with split=")
    exact = [name for name in found if name == split]
    alike = [name for name in found if canonical_split(name) == canonical_split(split)]
    if exact or alike:
        return (exact or alike)[0]
    if path.is_file() and len(found) == 1:
        return found[0]  # The file was named itself: whatever it calls its split, it is meant.
    raise ValueError(f"{shown(path)} has no split {split!r}; found: {', '.join(found)}. Change the split")
