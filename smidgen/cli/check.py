"""`smidgen check`: what is wrong with a dataset, before hours are spent on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from smidgen.cli.failures import ExitCode, usage_error
from smidgen.cli.options import AsJson
from smidgen.cli.output import Result, say, table
from smidgen.cli.progress import Progress

if TYPE_CHECKING:
    from smidgen.data.checks import CleanCopy, Finding, Inspection

_EXAMPLES = 3


def check(
    data: Annotated[Path, typer.Argument(help="Dataset folder or COCO json.")],
    split: Annotated[str | None, typer.Option(help="Only this split.")] = None,
    images: Annotated[bool, typer.Option(help="Read every image, too (slower).")] = True,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that read images; default: up to 4.")] = None,
    fix: Annotated[
        Path | None,
        typer.Option(
            help="Write a mended copy to this new folder, in COCO layout; images are hard links where the disk allows."
        ),
    ] = None,
    as_json: AsJson = False,
) -> Result:
    """Look for errors in a dataset: exit code 3 when something would be lost, 0 when there are only warnings."""
    from smidgen.data.checks import inspect_dataset, write_clean_copy

    if fix is not None:
        _require_fixable(data, fix, images)
    with Progress("reading images") as progress:
        inspection = inspect_dataset(
            data, split, images=images, workers=workers, progress=lambda done, _: progress.at(done)
        )
    # Where no split could be opened, the findings say why, and there is nothing to copy.
    copy = write_clean_copy(inspection, fix) if fix is not None and inspection.dataset.splits else None
    values = _values(inspection, copy)
    say(values["layout"])
    code = ExitCode.DATASET_ERRORS if inspection.errors else ExitCode.OK
    return Result(values, lambda console: _show(console, inspection, values, copy), code)


def _require_fixable(data: Path, fix: Path, images: bool) -> None:
    """Known before hours of reading: whether a copy can be written at all."""
    from smidgen.data.finished_folder import require_free

    if not images:
        raise usage_error(
            "expected --fix without --no-images", "which images can be kept is known only by reading them"
        )
    require_free(fix.expanduser(), data.expanduser())


def _values(inspection: Inspection, copy: CleanCopy | None) -> dict[str, Any]:
    from smidgen.data.image_files import shown

    splits = inspection.dataset.splits
    values = {
        "errors": [finding.to_json() for finding in inspection.errors],
        "warnings": [finding.to_json() for finding in inspection.warnings],
        "counts": dict(Counter(finding.kind for finding in inspection.findings)),
        "layout": next((dataset.layout for dataset in splits.values()), ""),
        "splits": {
            split: {
                "images": len(dataset),
                "objects": sum(len(record) for record in dataset.records),
                "classes": len(dataset.classes),
            }
            for split, dataset in splits.items()
        },
    }
    if copy is not None:
        values["fixed"] = {"out": shown(copy.folder), "images": copy.images, "changes": copy.counts}
    return values


def _show(console: Console, inspection: Inspection, values: dict[str, Any], copy: CleanCopy | None) -> None:
    columns = ("images", "objects", "classes")
    rows = [(split, *(row[column] for column in columns)) for split, row in values["splits"].items()]
    console.print(table("", ("split", *columns), rows))
    for title, findings in (("error", inspection.errors), ("warning", inspection.warnings)):
        _show_kinds(console, title, findings)
    if not inspection.findings:
        console.print("nothing wrong was found")
    if copy is not None:
        done = ", ".join(f"{count} {kind}" for kind, count in copy.counts.items()) or "nothing had to be changed"
        console.print(f"\nmended copy in {values['fixed']['out']} (see fixes.json): {done}", markup=False)


def _show_kinds(console: Console, title: str, findings: Sequence[Finding]) -> None:
    """Each kind once, with what to do and its first examples."""
    by_kind: dict[str, list[Finding]] = {}
    for finding in findings:
        by_kind.setdefault(finding.kind, []).append(finding)
    for kind, members in by_kind.items():
        console.print(f"\n{title}: {len(members)} {kind}: {members[0].remedy}", markup=False)
        for finding in members[:_EXAMPLES]:
            console.print(f"  {finding.file}: {finding.observed}".rstrip(": "), markup=False)
        if len(members) > _EXAMPLES:
            console.print(f"  ... and {len(members) - _EXAMPLES} more; --json lists all")
