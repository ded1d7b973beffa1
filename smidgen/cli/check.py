"""`smidgen check`: what is wrong with a dataset, before hours are spent on it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from smidgen.cli.failures import ExitCode
from smidgen.cli.options import AsJson
from smidgen.cli.output import Result, say, table
from smidgen.cli.progress import track

if TYPE_CHECKING:
    from smidgen.data import DetectionDataset


@dataclass(frozen=True)
class Finding:
    """Something that is lost (error) or was mended (warning). kind: a short word; file, detail: where and what."""

    severity: str
    kind: str
    file: str
    detail: str

    def to_json(self) -> dict[str, str]:
        """As the command prints it."""
        return {"kind": self.kind, "file": self.file, "detail": self.detail}


def check(
    data: Annotated[Path, typer.Argument(help="Dataset folder or COCO json.")],
    split: Annotated[str | None, typer.Option(help="Only this split.")] = None,
    images: Annotated[bool, typer.Option(help="Read every image, too (slower).")] = True,
    as_json: AsJson = False,
) -> Result:
    """Look for errors in a dataset: exit code 3 when something would be lost, 0 when there are only warnings."""
    findings: list[Finding] = []
    splits: dict[str, Any] = {}
    layout = ""
    for name in [split] if split else split_names(data):
        dataset = _opened(data, name, findings)
        if dataset is None:
            continue
        layout = dataset.layout
        splits[name or dataset.split] = _summary(dataset)
        findings += _notes(dataset)
        findings += _unreadable(dataset) if images else []
    return _result(layout, splits, findings)


def split_names(data: Path) -> list[str | None]:
    """Splits of the dataset as its folder calls them; [None] where the reader has to explain what is wrong."""
    from smidgen.data.layouts import LAYOUTS

    folder = data.expanduser()
    if folder.exists():
        for layout in LAYOUTS.values():
            recognized = layout.recognize(folder)
            if recognized is not None:
                return list(recognized.splits)
    return [None]


def _opened(data: Path, split: str | None, findings: list[Finding]) -> DetectionDataset | None:
    from smidgen.data import open_dataset

    try:
        return open_dataset(data, split)
    except ValueError as error:
        if split is None or not _is_there(data, split):
            raise
        findings.append(Finding("error", "unusable_split", str(data), str(error)))
        return None


def _is_there(data: Path, split: str) -> bool:
    """Whether the dataset has the split, be it usable or not."""
    from smidgen.data.recognized import canonical_split

    return canonical_split(split) in {canonical_split(name) for name in split_names(data) if name is not None}


def _summary(dataset: DetectionDataset) -> dict[str, int]:
    objects = sum(len(record) for record in dataset.records)
    return {"images": len(dataset), "objects": objects, "classes": len(dataset.classes)}


def _notes(dataset: DetectionDataset) -> list[Finding]:
    return [Finding(note.severity, note.kind, note.file, note.detail) for note in dataset.notes.notes]


def _unreadable(dataset: DetectionDataset) -> list[Finding]:
    from smidgen.data import UnreadableImageError, read_image
    from smidgen.data.image_files import shown

    findings = []
    for record in track(dataset.records, f"reading {dataset.split}", len(dataset)):
        try:
            read_image(record.file, record.size_hw)
        except UnreadableImageError as error:
            findings.append(Finding("error", "unreadable_image", shown(record.file), error.reason))
    return findings


def _result(layout: str, splits: dict[str, Any], findings: list[Finding]) -> Result:
    say(layout)
    errors = [finding for finding in findings if finding.severity == "error"]
    warnings = [finding for finding in findings if finding.severity != "error"]
    values = {
        "errors": [finding.to_json() for finding in errors],
        "warnings": [finding.to_json() for finding in warnings],
        "counts": dict(Counter(finding.kind for finding in findings)),
        "layout": layout,
        "splits": splits,
    }

    def show(console: Console) -> None:
        columns = ("images", "objects", "classes")
        rows = [(name, *(row[column] for column in columns)) for name, row in splits.items()]
        console.print(table("", ("split", *columns), rows))
        for title, chosen in (("error", errors), ("warning", warnings)):
            for finding in chosen[:20]:
                console.print(f"{title}: {finding.kind}: {finding.file} {finding.detail}".rstrip(), markup=False)
            if len(chosen) > 20:
                console.print(f"... and {len(chosen) - 20} more of these; --json lists all")
        if not findings:
            console.print("nothing wrong was found")

    return Result(values, show, ExitCode.DATASET_ERRORS if errors else ExitCode.OK)
