"""`smidgen train`: a model, from words to a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from smidgen.cli.options import AsJson, chosen_device
from smidgen.cli.output import Result, say, table
from smidgen.cli.run_settings import Beginning, begin, check_run_folder, flags_as_changes, split_words

if TYPE_CHECKING:
    from smidgen.recipes.experiment import Experiment
    from smidgen.training import TrainingResult


def train(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL] [FIELD=VALUE]...", help="Catalogue name or experiment's .yaml; fields to change."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Run folder to make.")] = ...,  # type: ignore[assignment]
    data: Annotated[Path | None, typer.Option(help="Dataset: a folder of a known layout, or a COCO json.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Begin with a recipe: small_budget.deeppcb, overfit16 ...")] = None,
    experiment: Annotated[Path | None, typer.Option(help="Begin with a run's experiment.yaml.")] = None,
    init: Annotated[
        Path | None, typer.Option(help="Checkpoint to start from; heads are made anew for other classes.")
    ] = None,
    pretrained: Annotated[
        bool | None, typer.Option("--pretrained", help="ImageNet weights for the backbone, from timm.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    minutes: Annotated[float | None, typer.Option(help="End cleanly after so much training time.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per batch, over all processes.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=VALUE", help="Change a field, as in training.learning_rate=2e-4 (repeatable)."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out where it stopped.")] = False,
    as_json: AsJson = False,
) -> Result:
    """Train a model. Ctrl-C saves and ends with exit code 130; the same command with --resume goes on."""
    from smidgen.recipes.experiment import with_changes
    from smidgen.recipes.overrides import parse_overrides

    check_run_folder(out, resume)
    model, overrides = split_words(words or [])
    flags = {
        "training.epochs": epochs,
        "training.max_minutes": minutes,
        "training.batch_size": batch_size,
        "training.seed": seed,
        "data.path": data,
    }
    made = begin(Beginning(model=model, recipe=recipe, file=experiment, data=data), out if resume else None)
    made = with_changes(made, flags_as_changes(flags))
    made = with_changes(made, parse_overrides([*(changes or []), *overrides]))
    made = with_changes(made, {} if pretrained is None else {"pretrained": pretrained})
    return _result(_run(made, out, init, chosen_device(device), resume))


def _run(experiment: Experiment, out: Path, init: Path | None, device: str, resume: bool) -> TrainingResult:
    from smidgen.recipes.running import run_experiment
    from smidgen.training import Interrupted

    try:
        return run_experiment(experiment, out, init=init, resume=resume, device=device, say=say)
    except Interrupted as stop:
        stop.add_note(f"`smidgen train --out {out} --resume` goes on")
        raise


def _result(trained: TrainingResult) -> Result:
    values = {
        "run": str(trained.run),
        "best": str(trained.best),
        "metrics": dict(trained.metrics),
        "seconds": trained.seconds,
    }

    def show(console: Console) -> None:
        if trained.metrics:
            console.print(table("validation", ("figure", "value"), trained.metrics.items()))
        console.print(
            f"trained for {trained.seconds / 60:.1f} minutes; the best model is in {trained.best}", markup=False
        )

    return Result(values, show)
