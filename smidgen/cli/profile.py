"""`smidgen profile`: what a model costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smidgen.cli.failures import usage_error
from smidgen.cli.options import AsJson, Device, chosen_device
from smidgen.cli.output import Result

if TYPE_CHECKING:
    from torch import nn


def profile(
    model: Annotated[str, typer.Argument(help="Catalogue name, or a run or checkpoint folder.")],
    classes: Annotated[int, typer.Option(min=1, help="Number of classes (of a catalogue name).")] = 91,
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH of the network's input in pixels.")] = "800x1333",
    latency: Annotated[bool, typer.Option(help="Measure the time of one image, too.")] = True,
    device: Device = "cpu",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field, as in model.num_queries=300."),
    ] = None,
    as_json: AsJson = False,
) -> Result:
    """Count parameters and multiply-adds per stage, and measure latency. Downloads nothing."""
    from smidgen.evaluation import profile as cost_of

    size_hw = _size_hw(size)
    network = _network(model, classes, changes or []).to(chosen_device(device))
    cost = cost_of(network, size_hw=size_hw, latency=latency)
    return Result(cost.to_json(), lambda console: console.print(cost.renderable()))


def _network(name: str, classes: int, overrides: list[str]) -> nn.Module:
    if Path(name).is_dir():
        from smidgen.checkpoints import load

        return load(Path(name))
    from smidgen.models import create_model
    from smidgen.recipes.experiment import default_experiment, with_changes
    from smidgen.recipes.overrides import parse_overrides

    experiment = with_changes(default_experiment(name), parse_overrides([f"model.num_classes={classes}", *overrides]))
    return create_model(name, config=experiment.model)


def _size_hw(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    try:
        size_hw = int(height), int(width or height)
    except ValueError as error:
        raise usage_error(f"expected HEIGHTxWIDTH as in --size 800x1333, got {text!r}") from error
    if min(size_hw) < 1:
        raise usage_error(f"expected a size of at least 1x1, got {text!r}", "change --size")
    return size_hw
