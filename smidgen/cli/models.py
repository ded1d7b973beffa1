"""`smidgen models`: the catalogue."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from smidgen.cli.options import AsJson
from smidgen.cli.output import Result


def models(
    pattern: Annotated[str, typer.Argument(help='Names to list, for example "*dino*".')] = "*",
    as_json: AsJson = False,
) -> Result:
    """List the models that can be trained."""
    from smidgen.models import CATALOGUE, list_models

    found = {name: CATALOGUE[name].about for name in list_models(pattern)}

    def show(console: Console) -> None:
        width = max(map(len, found), default=0)
        for name, about in found.items():
            console.print(f"{name:<{width}}  {about}".rstrip(), markup=False)
        if not found:
            console.print(f"no model is named like {pattern!r}; `smidgen models` lists all", markup=False)

    return Result({"models": [{"name": name, "about": about} for name, about in found.items()]}, show)
