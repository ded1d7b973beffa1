"""All splits of a dataset, opened one by one, so that a broken one keeps nobody from checking the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from smidgen.data.checks.findings import Finding
from smidgen.data.dataset import DetectionDataset
from smidgen.data.image_files import shown
from smidgen.data.layouts import open_dataset, recognize
from smidgen.data.recognized import canonical_split, without_union


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
    layout, recognized = recognize(folder)
    names = without_union(list(recognized.splits))
    splits: dict[str, DetectionDataset] = {}
    findings: list[Finding] = []
    for name in [split] if split else names:
        try:
            splits[name] = open_dataset(folder, name)
        except ValueError as error:
            if not _is_there(name, recognized.splits):
                raise
            findings.append(Finding("unusable_split", shown(folder), str(error)))
            continue
        findings += [Finding(note.kind, note.file, note.detail) for note in splits[name].notes.notes]
    return OpenedDataset(folder, layout, splits, split is None and len(splits) == len(names), tuple(findings))


def _is_there(wanted: str, names: Iterable[str]) -> bool:
    return canonical_split(wanted) in {canonical_split(name) for name in names}
