"""All splits of a dataset, opened one by one, so that a broken one keeps nobody from checking the others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from smidgen.data.checks.findings import Finding
from smidgen.data.dataset import DetectionDataset
from smidgen.data.image_files import shown
from smidgen.data.layouts import LAYOUTS, open_dataset
from smidgen.data.notes import Note
from smidgen.data.recognized import UNION, canonical_split


@dataclass(frozen=True, slots=True)
class OpenedDataset:
    """path: where it lies. layout: key of LAYOUTS. splits: the usable ones by name. complete: whether all splits are
    among them. findings: what was found while opening and reading annotations."""

    path: Path
    layout: str
    splits: dict[str, DetectionDataset]
    complete: bool
    findings: tuple[Finding, ...]


def open_splits(path: Path | str, split: str | None = None) -> OpenedDataset:
    """Every split (or the one that is wanted) of a dataset.

    A split that cannot be used becomes a finding. ValueError: there is no dataset at `path`, or it has no such split.
    """
    folder = Path(path).expanduser()
    layout, names = _splits_found(folder)
    splits: dict[str, DetectionDataset] = {}
    findings: list[Finding] = []
    for name in [split] if split else names:
        try:
            dataset = open_dataset(folder, name)
        except ValueError as error:
            if not _is_there(name, names):
                raise
            findings.append(Finding("unusable_split", shown(folder), str(error)))
            continue
        splits[dataset.split if name is None else name] = dataset
        findings += [finding_of_note(note) for note in dataset.notes.notes]
    return OpenedDataset(folder, layout, splits, split is None and len(splits) == len(names), tuple(findings))


def _splits_found(folder: Path) -> tuple[str, list[str | None]]:
    """Layout and splits as the folder calls them; ("", [None]) where the reader has to explain what is wrong."""
    if folder.exists():
        for layout, reader in LAYOUTS.items():
            recognized = reader.recognize(folder)
            if recognized is not None:
                return layout, _without_union(list(recognized.splits))
    return "", [None]


def _without_union(names: list[str]) -> list[str | None]:
    """Train and val together are no split of their own where both are there, too."""
    both = {"train", "val"} <= {canonical_split(name) for name in names}
    return [name for name in names if not (both and canonical_split(name) == UNION)]


def _is_there(wanted: str | None, names: list[str | None]) -> bool:
    return wanted is not None and canonical_split(wanted) in {canonical_split(name) for name in names if name}


def finding_of_note(note: Note) -> Finding:
    """What a reader noted, with the kinds that only a closer look at the box tells apart."""
    inverted = note.kind == "degenerate_box" and _is_inverted(note.detail)
    return Finding("inverted_box" if inverted else note.kind, note.file, note.detail)


def _is_inverted(detail: str) -> bool:
    """Readers end their notes about boxes with "= x0 y0 x1 y1"."""
    try:
        x0, y0, x1, y1 = (float(word) for word in detail.rpartition("=")[2].split())
    except ValueError:
        return False
    return x1 < x0 or y1 < y0
