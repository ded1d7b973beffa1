"""`smidgen evaluate`: a trained model judged by a protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smidgen.cli.detector import Compiled, Optimized, load_detector
from smidgen.cli.options import AsJson, BatchSize, Data, Device, Run, chosen_device
from smidgen.cli.output import Result, say
from smidgen.cli.progress import Progress

if TYPE_CHECKING:
    from smidgen.evaluation import Evaluation


def evaluate(
    run: Run,
    data: Data,
    split: Annotated[str, typer.Option(help="Which images: train, val, test ...")] = "val",
    protocol: Annotated[str, typer.Option(help="coco, aitod ..., with or without @version, or a .yaml file.")] = "coco",
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamplings of the images for 95 % intervals; 0 = none.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Where to write; default: a folder named like the split in RUN.")
    ] = None,
    batch_size: BatchSize = 2,
    device: Device = "auto",
    optimized: Optimized = None,
    compiled: Compiled = False,
    as_json: AsJson = False,
) -> Result:
    """Judge a model on a split: figures by class and by object size; writes predictions.json and evaluation.json."""
    from smidgen.data import open_dataset
    from smidgen.evaluation import load_protocol
    from smidgen.recipes.experiment import EvaluationConfig
    from smidgen.recipes.running import judge

    load_protocol(protocol)
    model = load_detector(run, chosen_device(device), optimized, compiled)
    dataset = open_dataset(data, split)
    say(f"{dataset.layout}: {len(dataset)} images of {dataset.split}")
    for line in dataset.notes.lines():
        say(f"  note: {line}")
    config = EvaluationConfig(protocol=protocol, bootstrap=bootstrap, batch_size=batch_size)
    with Progress("images", len(dataset)) as progress:
        found = judge(model, dataset, config, device=chosen_device(device), progress=lambda done, _: progress.at(done))
    folder = out or run / dataset.split
    write_evaluation(found, folder)
    say(f"written to {folder}")
    return Result(found.to_json(), lambda console: console.print(found.renderable()))


def write_evaluation(found: Evaluation, folder: Path) -> None:
    """predictions.json (COCO results) and evaluation.json (figures) of one evaluation."""
    import json

    from smidgen.checkpoints.atomic_write import write_atomically
    from smidgen.evaluation import write_predictions

    folder.mkdir(parents=True, exist_ok=True)
    write_predictions(folder / "predictions.json", found.predictions)
    text = json.dumps(found.to_json(), indent=2) + "\n"
    write_atomically(folder / "evaluation.json", lambda partial: partial.write_text(text, encoding="utf-8") and None)
