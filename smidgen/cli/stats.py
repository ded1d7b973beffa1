"""`smidgen stats`: what a dataset holds, and what that advises before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from smidgen.cli.failures import usage_error
from smidgen.cli.options import AsJson
from smidgen.cli.output import Result, say, table

if TYPE_CHECKING:
    from smidgen.analysis.dataset_advice import Advice
    from smidgen.data import DetectionDataset
    from smidgen.data.statistics.describe import DatasetStatistics
    from smidgen.structures import Preprocessing


def stats(
    data: Annotated[Path, typer.Argument(help="Dataset folder or COCO json.")],
    split: Annotated[str | None, typer.Option(help="Which images; train where nothing is said.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with charts to this file.")] = None,
    size: Annotated[
        str, typer.Option(help="Size of the network's input in px: SHORTxLONG, or SHORT with a long side of 5/3.")
    ] = "800x1333",
    as_json: AsJson = False,
) -> Result:
    """Count a dataset, and say which input size, pyramid, tiles and queries it needs, with the recall they allow."""
    from smidgen.analysis.dataset_advice import advise
    from smidgen.data import open_dataset
    from smidgen.data.statistics.describe import describe

    preprocessing = _preprocessing(size)
    if html is not None and html.is_dir():
        raise usage_error(f"expected a file in --html, but {html} is a folder", f"for example --html {html}/stats.html")
    dataset = open_dataset(data, split or _usual_split(data))
    say(f"{dataset.layout}: {len(dataset)} images of {dataset.split}")
    for line in dataset.notes.lines():
        say(f"  note: {line}")
    found, advice = describe(dataset, preprocessing), advise(dataset, preprocessing)
    if html is not None:
        _write_page(html, dataset, found, advice, preprocessing)
    return Result(
        _values(dataset, found, advice, preprocessing, html), lambda console: _show(console, found, advice, html)
    )


def _preprocessing(size: str) -> Preprocessing:
    from smidgen.structures import Preprocessing

    short, given, long = size.lower().partition("x")
    try:
        short_side = int(short)
        return Preprocessing(short_side=short_side, long_side=int(long) if given else short_side * 5 // 3)
    except ValueError as error:
        raise usage_error(
            f"expected --size SHORTxLONG with 1 <= SHORT <= LONG, as in 800x1333, got {size!r}"
        ) from error


def _usual_split(data: Path) -> str | None:
    """The training images where there are several splits: what is trained decides the settings."""
    from smidgen.data.layouts import split_names
    from smidgen.data.recognized import canonical_split

    names = split_names(data)
    training = [name for name in names if canonical_split(name) == "train"]
    if len(names) > 1 and training:
        others = ", ".join(name for name in names if name != training[0])
        say(f"counting {training[0]}; for others give --split ({others})")
        return training[0]
    return None


def _write_page(
    page: Path,
    dataset: DetectionDataset,
    found: DatasetStatistics,
    advice: tuple[Advice, ...],
    preprocessing: Preprocessing,
) -> None:
    from smidgen.analysis.statistics_page import statistics_page
    from smidgen.checkpoints.atomic_write import write_atomically

    content = statistics_page(dataset, found, advice, preprocessing)
    write_atomically(page, lambda path: path.write_text(content, encoding="utf-8"))


def _values(
    dataset: DetectionDataset,
    found: DatasetStatistics,
    advice: tuple[Advice, ...],
    preprocessing: Preprocessing,
    page: Path | None,
) -> dict[str, Any]:
    from smidgen.data.image_files import shown

    return {
        "data": shown(dataset.path),
        "split": dataset.split,
        "layout": dataset.layout,
        "input": {"short_side": preprocessing.short_side, "long_side": preprocessing.long_side},
        "statistics": found.to_json(),
        "advice": [piece.to_json() for piece in advice],
        "page": None if page is None else str(page),
    }


def _show(console: Console, found: DatasetStatistics, advice: tuple[Advice, ...], page: Path | None) -> None:
    console.print(table("Objects", ("", "smallest", "5 %", "median", "95 %", "largest", "mean"), _rows(found)))
    columns = ("class", "objects", "images", "median px")
    rows = [(row.name, row.objects, row.images, _number(row.median_px)) for row in found.classes.classes]
    console.print(table("Classes", columns, rows))
    for protocol, bins in found.at_input.bins.items():
        on_disk = found.on_disk.bins[protocol]
        sizes = [(name, number, on_disk[name]) for name, number in bins.items()]
        console.print(table(f"Sizes as in {protocol}", ("bin", "at the input", "on disk"), sizes))
    for piece in advice:
        _show_advice(console, piece)
    if not advice:
        console.print("no objects: nothing to advise")
    if page is not None:
        console.print(f"charts and tables in {page}", markup=False)


def _show_advice(console: Console, piece: Advice) -> None:
    from smidgen.analysis.dataset_advice.advice import percent

    rows = [
        [("> " if index == piece.chosen else "  ") + choice.name, percent(choice.bound), *choice.figures]
        for index, choice in enumerate(piece.choices)
    ]
    fitting = _fitting(["", "recall at most", *piece.columns], rows, console.width)
    console.print(table(piece.title, fitting[0], fitting[1:]))
    console.print(piece.sentence, markup=False)
    if piece.command:
        console.print(f"  {piece.command}", markup=False)
    console.print()


def _fitting(header: list[str], rows: list[list[str]], width: int) -> list[list[str]]:
    """Header and rows with as many columns as the terminal is wide; the page shows all."""
    widths = [max(map(len, column)) + 2 for column in zip(header, *rows, strict=True)]
    number = max(2, sum(sum(widths[: last + 1]) - 2 <= width for last in range(len(widths))))
    return [row[:number] for row in (header, *rows)]


def _rows(found: DatasetStatistics) -> list[list[str]]:
    quantities = {
        "per image": found.per_image.quantiles,
        "side on disk, px": found.on_disk.quantiles,
        "side at the input, px": found.at_input.quantiles,
        "width / height": found.shapes.ratios,
        "nearest other, in sizes": found.crowding.nearest,
        "others within 2 sizes": found.crowding.neighbors,
        "covered share of the image": found.placement.covered,
    }
    return [
        [name, *(_number(value) for value in (q.smallest, q.q05, q.median, q.q95, q.largest, q.mean))]
        for name, q in quantities.items()
        if q is not None
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"
