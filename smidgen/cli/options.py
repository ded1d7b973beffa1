"""Options and arguments that several verbs share, so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout; everything else goes to stderr.")
]
Data = Annotated[Path, typer.Option(help="Dataset: a folder whose layout is recognized, or a COCO json.")]
Run = Annotated[
    Path,
    typer.Argument(
        help="Run folder, checkpoint folder, or owner/name of the Hugging Face hub; to predict, evaluate and serve, an "
        "exported file's folder, too."
    ),
]
Device = Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda, cuda:1, mps.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images per batch.")]


def chosen_device(name: str) -> str:
    """The device to use; "auto" takes an accelerator where there is one. ValueError for one that is not there."""
    import torch

    available = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        return available.type if available else "cpu"
    if name == "cpu" or (available and name.split(":")[0] == available.type):
        return name
    here = "cpu" + (f", {available.type}" if available else "")
    raise ValueError(f"expected a device that is here ({here}), got {name!r}; change --device")
