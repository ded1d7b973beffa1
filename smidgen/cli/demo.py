"""`smidgen demo`: the whole way from nothing to a report, in a few minutes on two CPU cores, without a network."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smidgen.cli.options import AsJson, Device, chosen_device
from smidgen.cli.output import Result, say
from smidgen.cli.progress import Progress

if TYPE_CHECKING:
    from smidgen.data import DetectionDataset
    from smidgen.evaluation import Evaluation
    from smidgen.recipes.experiment import Experiment
    from smidgen.training import TrainingResult


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the scenes, the run and report.html.")] = Path("demo"),
    minutes: Annotated[float, typer.Option(min=0.05, help="How long to train.")] = 2.0,
    model: Annotated[str, typer.Option(help="Which model to train.")] = "dino_nano",
    seed: Annotated[int, typer.Option(help="Of the scenes and of the training.")] = 0,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> Result:
    """Draw scenes, train a small model on them, judge it, and write report.html. Can be run again."""
    from smidgen.recipes.demo import demo as recipe
    from smidgen.recipes.demo import fitted_to
    from smidgen.recipes.experiment import with_changes

    chosen = chosen_device(device)
    experiment = recipe(model, out / "scenes", minutes)
    experiment = with_changes(experiment, {"training": {"seed": seed}})
    _clear(out)
    started = time.monotonic()
    _draw_scenes(out / "scenes", minutes, seed)
    say(f"training {model} for about {minutes:g} minutes")
    trained = _train(fitted_to(experiment, minutes, chosen), out / "run", chosen)
    dataset, found = _judge(experiment, out / "run", chosen)
    report = _write_report(out, experiment, trained, dataset, found, time.monotonic() - started)
    values = {
        "report": str(report),
        "run": str(trained.run),
        "metrics": dict(found.metrics),
        "seconds": round(time.monotonic() - started, 1),
    }
    return Result(values, lambda console: console.print(found.renderable(), f"open {report} in a browser"))


def _clear(out: Path) -> None:
    """Remove what an earlier demo made, and nothing else."""
    for name in ("scenes", "run"):
        shutil.rmtree(out / name, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)


def _draw_scenes(folder: Path, minutes: float, seed: int) -> None:
    from smidgen.data.synthetic import generate
    from smidgen.recipes.demo import scenes, splits

    counts = splits(minutes)
    say(f"drawing {counts['train']} training and {counts['val']} validation scenes")
    with Progress("scenes", sum(counts.values())) as progress:
        generate(folder, scenes(seed), splits=counts, progress=lambda done, _: progress.at(done))


def _train(experiment: Experiment, run: Path, device: str) -> TrainingResult:
    from smidgen.recipes.running import run_experiment

    return run_experiment(experiment, run, device=device, say=say)


def _judge(experiment: Experiment, run: Path, device: str) -> tuple[DetectionDataset, Evaluation]:
    from smidgen.checkpoints import load
    from smidgen.cli.evaluate import write_evaluation
    from smidgen.data import open_dataset
    from smidgen.recipes.running import judge

    dataset = open_dataset(experiment.data.path, "val")
    with Progress("images", len(dataset)) as progress:
        found = judge(
            load(run), dataset, experiment.evaluation, device=device, progress=lambda done, _: progress.at(done)
        )
    write_evaluation(found, run / "val")
    return dataset, found


def _write_report(
    out: Path,
    experiment: Experiment,
    trained: TrainingResult,
    dataset: DetectionDataset,
    found: Evaluation,
    seconds: float,
) -> Path:
    from smidgen.analysis.training_report import training_report
    from smidgen.checkpoints import load
    from smidgen.checkpoints.atomic_write import write_atomically

    parameters = sum(parameter.numel() for parameter in load(trained.run).parameters())
    facts = [
        (f"{found.metrics['AP50']:.2f}", "AP50 on unseen scenes"),
        (f"{found.metrics['AP']:.2f}", "AP (mean over IoU)"),
        (f"{trained.seconds / 60:.1f} min", "training time"),
        (f"{parameters / 1e6:.1f} M", "parameters"),
        (f"{found.settings['objects']}", "objects to find"),
    ]
    page = training_report(
        trained.run,
        dataset,
        found,
        title="Smidgen demo",
        lead=f"{experiment.system} learned to find small objects in drawn scenes, from random weights.",
        facts=facts,
        story=_story(experiment, dataset, seconds),
    )
    report = out / "report.html"
    write_atomically(report, lambda partial: partial.write_text(page, encoding="utf-8") and None)
    return report


def _story(experiment: Experiment, dataset: DetectionDataset, seconds: float) -> list[str]:
    from smidgen.recipes.demo import SIDE_PX, scenes

    low, high = scenes().side_px
    return [
        f"Smidgen drew {SIDE_PX} x {SIDE_PX} px scenes as seen from a drone, with exact boxes of objects of "
        f"{low:g} to {high:g} px ({', '.join(dataset.classes.names)}); trained {experiment.system} on them with "
        f"flips and turns; and judged it on {len(dataset)} scenes that it never saw. Nothing was downloaded. All of it "
        f"took {seconds / 60:.1f} minutes.",
        "A network this small, after so little time, from random weights, is no measure of the method: detectors of "
        "this family train for hours. It shows that every part works, from drawing to judging, on this machine.",
        "Everything is in the folder of this page: scenes/ (COCO layout), run/ (checkpoint, metrics.jsonl, "
        "experiment.yaml), run/val/ (predictions.json, evaluation.json).",
    ]
