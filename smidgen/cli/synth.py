"""`smidgen synth`: labeled scenes, drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from smidgen.cli.failures import usage_error
from smidgen.cli.options import AsJson
from smidgen.cli.output import Result
from smidgen.cli.progress import Progress


def synth(
    out: Annotated[Path, typer.Argument(help="Folder for <split>/annotations.json and <split>/images/.")],
    count: Annotated[int, typer.Option(min=1, help="Training images.")] = 200,
    val_count: Annotated[int, typer.Option(min=0, help="Validation images.")] = 50,
    size: Annotated[str, typer.Option(help="Size of the images, WIDTHxHEIGHT pixels.")] = "640x640",
    objects: Annotated[
        str, typer.Option(help="Size of objects, SMALLEST-LARGEST pixels (square root of the area).")
    ] = "4-48",
    density: Annotated[str, typer.Option(help="Objects per image, FEWEST-MOST.")] = "10-60",
    classes: Annotated[str | None, typer.Option(help="Comma-separated: car,van,truck,bus,person,boat.")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same images.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes; they change nothing but the time.")] = 1,
    as_json: AsJson = False,
) -> Result:
    """Draw labeled scenes as seen from a drone, in COCO layout."""
    from smidgen.data.synthetic import CLASS_NAMES, SceneConfig, generate

    scenes = SceneConfig(
        size_wh=_pair(size, "x", int, "--size 640x480"),
        side_px=_pair(objects, "-", float, "--objects 4-48"),
        objects=_pair(density, "-", int, "--density 10-60"),
        classes=tuple(name.strip() for name in classes.split(",")) if classes else CLASS_NAMES,
        seed=seed,
    )
    with Progress("scenes", count + val_count) as progress:
        generate(
            out,
            scenes,
            splits={"train": count, "val": val_count},
            workers=workers,
            progress=lambda done, _: progress.at(done),
        )
    values = {"out": str(out), "train": count, "val": val_count}
    return Result(values, lambda console: _show(console, values))


def _show(console: Console, values: dict[str, object]) -> None:
    console.print(f"{values['out']}: {values['train']} training and {values['val']} validation images", markup=False)


Number = TypeVar("Number", int, float)


def _pair(text: str, separator: str, kind: type[Number], example: str) -> tuple[Number, Number]:
    first, found, second = text.partition(separator)
    try:
        return (kind(first), kind(second)) if found else (kind(first), kind(first))
    except ValueError as error:
        raise usage_error(f"expected one or two numbers as in {example}, got {text!r}") from error
