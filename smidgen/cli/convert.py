"""`smidgen convert`: an official release's checkpoint into ours."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from smidgen.cli.options import AsJson
from smidgen.cli.output import Result


class Labels(StrEnum):
    """How class outputs of the official network are numbered."""

    IDS = "ids"
    CONTIGUOUS = "contiguous"


def convert(
    file: Annotated[Path, typer.Argument(help="Checkpoint of an official release (.pth).")],
    system: Annotated[str, typer.Option(help="What it is: a model's name without its size, for example dino.")],
    out: Annotated[Path, typer.Option(help="Folder for model.safetensors and config.json.")],
    classes: Annotated[
        Path | None, typer.Option(help="COCO json with the class names; without one classes are numbered.")
    ] = None,
    labels: Annotated[
        Labels, typer.Option(help="What the outputs are: the dataset's raw ids, or contiguous classes in their order.")
    ] = Labels.IDS,
    as_json: AsJson = False,
) -> Result:
    """Convert an official checkpoint; nothing in it is executed."""
    if not file.is_file():
        raise FileNotFoundError(2, "there is no such checkpoint", str(file))
    from smidgen.checkpoints import convert as converted

    report = converted(file, system, out, classes=classes, labels=labels.value)
    values = {
        "file": str(file),
        "system": system,
        "model": report.model,
        "num_classes": report.num_classes,
        "out": str(report.folder),
    }
    return Result(values, lambda console: console.print(str(report), markup=False))
