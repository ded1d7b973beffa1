"""`smidgen convert`: an official release's checkpoint into ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smidgen.cli.options import AsJson
from smidgen.cli.output import Result


def convert(
    file: Annotated[Path, typer.Argument(help="Checkpoint of an official release (.pth).")],
    system: Annotated[str, typer.Option(help="What it is: a model's name without its size, for example dino.")],
    out: Annotated[Path, typer.Option(help="Folder for model.safetensors and config.json.")],
    as_json: AsJson = False,
) -> Result:
    """Convert an official checkpoint; nothing in it is executed."""
    if not file.is_file():
        raise FileNotFoundError(2, "there is no such checkpoint", str(file))
    from smidgen.checkpoints import convert as converted

    folder = converted(file, system, out)
    values = {"file": str(file), "system": system, "out": str(folder or out)}
    return Result(values, lambda console: console.print(f"wrote {values['out']}", markup=False))
