"""`smidgen convert`: an official release's checkpoint into ours."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from smidgen.cli.failures import usage_error
from smidgen.cli.options import AsJson
from smidgen.cli.output import Result


class Labels(StrEnum):
    """How class outputs of the official network are numbered."""

    IDS = "ids"
    CONTIGUOUS = "contiguous"


def convert(
    file: Annotated[Path, typer.Argument(help="Checkpoint of an official release (.pth).")],
    system: Annotated[
        str,
        typer.Option(
            help="What it is: a model's name without its size, for example dino; or strip_mlp_t and its sizes, whose "
            "file becomes a classifier for `smidgen train --init`."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for model.safetensors and config.json.")],
    classes: Annotated[
        Path | None,
        typer.Option(help="COCO json with the class names; without one they are read from the file, or numbered."),
    ] = None,
    labels: Annotated[
        Labels, typer.Option(help="What the outputs are: the dataset's raw ids, or contiguous classes in their order.")
    ] = Labels.IDS,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="A field of the model's configuration that the file does not tell (repeatable): "
            "count_thresholds=[10,50,100] and budgets=[300,500,900,1500] of a model that counts, num_queries=300, "
            "transformer.num_heads=4, backbone.name=resnet101.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> Result:
    """Convert an official checkpoint; nothing in it is executed. Its tensors tell most sizes, --set says the rest."""
    if not file.is_file():
        raise FileNotFoundError(2, "there is no such checkpoint", str(file))
    from smidgen.checkpoints import convert as converted

    settings = _settings(changes or [])
    report = converted(file, system, out, classes=classes, labels=labels.value, **settings)
    values = {
        "file": str(file),
        "system": system,
        "model": report.model,
        "num_classes": report.num_classes,
        "out": str(report.folder),
        "assumed": dict(report.assumed),
        "left_out": list(report.ignored),
    }
    return Result(values, lambda console: console.print(str(report), markup=False))


def _settings(changes: list[str]) -> dict[str, Any]:
    """Fields of the model's configuration; "model." in front of them, as other verbs want it, is taken off."""
    from smidgen.recipes.overrides import parse_overrides

    settings = parse_overrides([change.strip().removeprefix("model.") for change in changes])
    for option in ("file", "system", "out", "classes", "labels"):
        if option in settings:
            raise usage_error(f"{option!r} is not a field of a model", "`smidgen convert --help` says how it is given")
    return settings
