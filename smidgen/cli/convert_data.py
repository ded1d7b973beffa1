"""`smidgen convert-data`: a dataset in the format of another program, or cut into windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from smidgen.cli.failures import usage_error
from smidgen.cli.options import AsJson
from smidgen.cli.output import Result, say, table
from smidgen.cli.progress import Progress

if TYPE_CHECKING:
    from smidgen.data import DetectionDataset
    from smidgen.data.sliding_windows import Tiling


class Format(StrEnum):
    """Names of smidgen.data.writing.FORMATS, which would load torch."""

    COCO = "coco"
    YOLO = "yolo"
    VOC = "voc"
    VISDRONE = "visdrone"
    DOTA = "dota"
    WIDERPERSON = "widerperson"


def convert_data(
    data: Annotated[Path, typer.Argument(help="Dataset: a folder whose layout is recognized, or a COCO json.")],
    out: Annotated[Path, typer.Argument(help="New or empty folder, outside of DATA.")],
    format: Annotated[
        Format,
        typer.Option(
            help="What to write. CVAT and Label Studio import coco: SPLIT/annotations.json has all fields they ask for."
        ),
    ],
    split: Annotated[str | None, typer.Option(help="Only this split; without it, all of them.")] = None,
    link: Annotated[
        bool, typer.Option("--link", help="Hard links to the images instead of copies, where the disk allows them.")
    ] = False,
    tile: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Cut images into windows of this many pixels (only --format coco). SODA-D's preparation is "
            "--tile 800 --stride 650; networks then see them at 1200 px, which --resize 1200 does on disk.",
        ),
    ] = None,
    stride: Annotated[
        int | None, typer.Option(min=1, help="Pixels from one window to the next (13/16 of --tile without it).")
    ] = None,
    resize: Annotated[int | None, typer.Option(min=1, help="Side of a written window in pixels.")] = None,
    as_json: AsJson = False,
) -> Result:
    """Write a dataset in another format; what the format cannot hold is said.

    Images are copied as they are, boxes, classes, ids and ignore regions as far as the format has a place for them.
    Masks, key points and attributes are not read and so not written. OUT appears when everything is in it.
    """
    from smidgen.data.finished_folder import require_free

    require_free(out.expanduser(), data.expanduser())
    tiling = _tiling(format, tile, stride, resize)
    splits, left_out = _opened(data, split)
    for dataset in splits:
        say(f"{dataset.split}: {dataset.layout}")
        for line in dataset.notes.lines():
            say(f"{dataset.split}: {line}")
    values = _written(splits, out, format, link) if tiling is None else _tiled(splits, out, tiling)
    values["left_out"] = left_out + values["left_out"]
    described = {"data": str(data), "out": str(out), "format": format.value, **values}
    return Result(described, lambda console: _show(console, described))


def _tiling(format: Format, tile: int | None, stride: int | None, resize: int | None) -> Tiling | None:
    from smidgen.data.sliding_windows import Tiling

    if tile is None:
        if stride is not None or resize is not None:
            raise usage_error("--stride and --resize are about windows", "add --tile 800")
        return None
    if format is not Format.COCO:
        raise usage_error(f"windows are written as coco, got --format {format}", "convert the folder of windows again")
    return Tiling(tile, max(1, round(tile * 13 / 16)) if stride is None else stride, resize)


def _opened(data: Path, split: str | None) -> tuple[list[DetectionDataset], list[dict[str, Any]]]:
    """The splits to write, and what is left out of those found."""
    from smidgen.data import open_dataset
    from smidgen.data.layouts import split_names
    from smidgen.data.recognized import without_union

    if split is not None:
        return [open_dataset(data, split)], []
    found = split_names(data)
    chosen = without_union(found)
    left_out = [
        {"kind": "split", "count": 1, "text": f"split {name} holds the other ones: --split {name} writes it"}
        for name in found
        if name not in chosen
    ]
    opened, errors = [], []
    for name in chosen:
        try:
            opened.append(open_dataset(data, name))
        except ValueError as error:
            errors.append(error)
            left_out.append({"kind": "split", "count": 1, "text": f"split {name} cannot be used: {error}"})
    if not opened:
        raise errors[0]
    return opened, left_out


def _written(splits: Sequence[DetectionDataset], out: Path, format: Format, link: bool) -> dict[str, Any]:
    from smidgen.data.writing import write_dataset

    with Progress("images", sum(map(len, splits))) as progress:
        written = write_dataset(splits, out, format.value, link=link, progress=lambda done, _: progress.at(done))
    left_out = [{"kind": each.kind, "count": each.count, "text": str(each)} for each in written.shortfalls]
    summary = {"splits": {split.split: _summary(split) for split in splits}, "notes": _notes(splits)}
    return {**summary, "copied": written.copied, "linked": written.linked, "left_out": left_out}


def _tiled(splits: Sequence[DetectionDataset], out: Path, tiling: Tiling) -> dict[str, Any]:
    from smidgen.data.soda_tiling import tile_dataset

    with Progress("images", sum(map(len, splits))) as progress:
        made = tile_dataset(splits, out, tiling, progress=lambda done, _: progress.at(done))
    unread = [note for windows in made.values() for note in windows.notes.notes]
    left_out = [{"kind": note.kind, "count": 1, "text": f"{note.file}: {note.detail}"} for note in unread]
    summary = {"splits": {name: _summary(windows) for name, windows in made.items()}, "notes": _notes(splits)}
    return {**summary, "copied": 0, "linked": 0, "left_out": left_out}


def _summary(split: DetectionDataset) -> dict[str, int]:
    return {
        "images": len(split),
        "objects": sum(len(record) for record in split.records),
        "ignore_regions": sum(len(record.ignore_xyxy) for record in split.records),
        "classes": len(split.classes),
    }


def _notes(splits: Sequence[DetectionDataset]) -> dict[str, dict[str, int]]:
    """What was mended or dropped while reading, by split."""
    return {split.split: split.notes.counts for split in splits}


def _show(console: Console, values: Mapping[str, Any]) -> None:
    columns = ("images", "objects", "ignore_regions", "classes")
    rows = [(name, *(row[column] for column in columns)) for name, row in values["splits"].items()]
    console.print(table("", ("split", *(column.replace("_", " ") for column in columns)), rows))
    if values["linked"] or values["copied"]:
        console.print(f"{values['copied']} images copied, {values['linked']} linked")
    for entry in values["left_out"]:
        console.print(f"note: {entry['text']}", markup=False)
    console.print(f"written as {values['format']} to {values['out']}", markup=False)
