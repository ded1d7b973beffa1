"""`smidgen compare`: which of several runs is better, and whether that can be told from these images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from smidgen.cli.failures import usage_error
from smidgen.cli.options import AsJson, BatchSize, Device, chosen_device
from smidgen.cli.output import Result, say, table
from smidgen.cli.progress import Progress

if TYPE_CHECKING:
    from smidgen.data import DetectionDataset
    from smidgen.evaluation import Protocol
    from smidgen.evaluation.cached_detections import CachedDetections
    from smidgen.evaluation.comparison import Comparison, Difference, Estimate

SHOWN_FIELDS = 25


@dataclass(frozen=True)
class Material:
    """What runs are judged by. truth: COCO ground truth; words: where it comes from. results: COCO results of each run.

    skipped: images that could not be read.
    """

    truth: Mapping[str, Any]
    words: str
    results: dict[Path, Sequence[Mapping[str, Any]]]
    skipped: tuple[str, ...]


def compare(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Run folders, checkpoints or COCO results json; the first is compared to."),
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="Several seeds of one system: name=RUN,RUN,RUN (repeatable).")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Dataset to judge models on: a folder whose layout is recognized, or a COCO json."),
    ] = None,
    ground_truth: Annotated[
        Path | None, typer.Option(help="Instead of --data, where all runs are results json: their COCO ground truth.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which images: train, val, test ...")] = "val",
    protocol: Annotated[str, typer.Option(help="coco, aitod ..., with or without @version, or a .yaml file.")] = "coco",
    metrics: Annotated[
        str | None, typer.Option(help="Average precisions of the protocol, with commas; default: all.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Resamplings of the images for the 95 % intervals.")] = 500,
    out: Annotated[
        Path | None, typer.Option(help="Folder for comparison.json and .png, and for detections to be used again.")
    ] = None,
    batch_size: BatchSize = 2,
    device: Device = "auto",
    as_json: AsJson = False,
) -> Result:
    """Compare runs on the same resampled images: figures and differences with intervals, and how the runs differ."""
    from smidgen.evaluation import load_protocol
    from smidgen.evaluation.comparison import compare as judge

    rules = load_protocol(protocol)
    systems = named_systems(runs or [], group or [])
    if out is not None and out.is_file():
        raise usage_error(f"expected a folder in --out, but {out} is a file", "choose another --out")
    material = _material(systems, data, ground_truth, split, rules, out, batch_size, device)
    found = judge(
        material.truth,
        {name: [material.results[run] for run in of_system] for name, of_system in systems.items()},
        rules,
        metrics=None if metrics is None else [word.strip() for word in metrics.split(",")],
        samples=samples,
    )
    values = {"data": material.words, **found.to_json(), **_differences(systems), "skipped": list(material.skipped)}
    values["runs"] = {name: [str(run) for run in of_system] for name, of_system in systems.items()}
    if out is not None:
        _write(found, values, out)
    return Result(values, lambda console: _show(found, values, console))


def named_systems(runs: Sequence[Path], groups: Sequence[str]) -> dict[str, list[Path]]:
    """name -> runs: single runs by the shortest ends of their paths that tell them apart, then groups."""
    names = _short_names(runs)
    systems = {name: [run] for name, run in zip(names, runs, strict=True)}
    for words in groups:
        name, _, paths = words.partition("=")
        members = [Path(path) for path in paths.split(",") if path]
        if not name or not members or name in systems:
            raise usage_error(f"expected a name of its own and runs in --group, got {words!r}", "name=RUN,RUN,RUN")
        systems[name] = members
    if len(systems) < 2 and not groups:
        raise usage_error(f"expected at least two runs or groups to compare, got {len(systems)}", "add another RUN")
    return systems


def _short_names(runs: Sequence[Path]) -> list[str]:
    """The ends of the paths that tell them apart, without what all of them end in."""
    paths = [run.absolute().parts for run in runs]
    if len(set(paths)) < len(paths):
        raise usage_error("expected different runs, got one of them twice", "leave it out")
    while len(paths) > 1 and len({path[-1:] for path in paths}) == 1:
        paths = [path[:-1] for path in paths]
    length = 1
    while len({path[-length:] for path in paths}) < len(paths):
        length += 1
    return ["/".join(path[-length:]) for path in paths]


def _material(
    systems: dict[str, list[Path]],
    data: Path | None,
    ground_truth: Path | None,
    split: str,
    protocol: Protocol,
    out: Path | None,
    batch_size: int,
    device: str,
) -> Material:
    """Read or make the detections of every run."""
    from smidgen.evaluation.prediction_source import open_predictions

    runs = list(dict.fromkeys(run for of_system in systems.values() for run in of_system))
    models = [run for run in runs if not is_results(run)]
    _require_source(models, data, ground_truth)
    truth, words, dataset = _truth(data, ground_truth, split)
    made = {} if dataset is None else _detections(models, dataset, out, protocol, batch_size, device)
    results = {run: one.results for run, one in made.items()}
    return Material(
        truth=truth,
        words=words,
        results=results | {run: open_predictions(run, truth).results for run in runs if run not in models},
        skipped=tuple(dict.fromkeys(file for one in made.values() for file in one.skipped)),
    )


def _truth(
    data: Path | None, ground_truth: Path | None, split: str
) -> tuple[Mapping[str, Any], str, DetectionDataset | None]:
    """COCO ground truth, where it comes from in words, and the data set, if it is one (then as `evaluate` reads it)."""
    from smidgen.data import open_dataset
    from smidgen.evaluation.ground_truth_source import open_ground_truth

    dataset = None if data is None else open_dataset(data, split)
    if dataset is None:
        source = open_ground_truth(ground_truth or Path(), split)
        document, layout, notes = source.document, source.layout, list(source.notes)
    else:
        document, layout, notes = (
            dataset.coco_ground_truth(),
            f"{dataset.split}, {dataset.layout}",
            dataset.notes.lines(),
        )
    for line in notes:
        say(f"note: {line}")
    return document, f"{data or ground_truth}: {layout}", dataset


def is_results(run: Path) -> bool:
    """Whether a RUN is somebody's results, and not a model."""
    from smidgen.checkpoints.native import CONFIG_FILE

    return run.is_file() and run.suffix.lower() == ".json" and run.name != CONFIG_FILE


def _require_source(models: Sequence[Path], data: Path | None, ground_truth: Path | None) -> None:
    from smidgen.checkpoints.native import checkpoint_folder

    if models and data is None:
        raise usage_error(f"missing option --data, on which {models[0]} is to be judged", "give a dataset")
    if data is None and ground_truth is None:
        raise usage_error("missing option --ground-truth (or --data), which the results belong to")
    if data is not None and ground_truth is not None:
        raise usage_error("expected --data or --ground-truth, got both", "leave out --ground-truth")
    for model in models:
        checkpoint_folder(model)  # a wrong path is said before the first model is run


def _detections(
    models: Sequence[Path],
    dataset: DetectionDataset,
    out: Path | None,
    protocol: Protocol,
    batch_size: int,
    device: str,
) -> dict[Path, CachedDetections]:
    """What each model detects; kept in the folder `out` where there is one."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        cache = Path(folder) if out is None else out / "detections"
        return {model: _detected(model, dataset, cache, protocol, batch_size, device) for model in models}


def _detected(
    model: Path, dataset: DetectionDataset, cache: Path, protocol: Protocol, batch_size: int, device: str
) -> CachedDetections:
    from smidgen.evaluation.cached_detections import cached_detections

    device = chosen_device(device)
    say(f"{model}: {len(dataset)} images of {dataset.split}")
    with Progress("images", len(dataset)) as progress:
        found = cached_detections(
            model,
            dataset,
            cache,
            protocol=protocol,
            batch_size=batch_size,
            device=device,
            progress=lambda done, _: progress.at(done),
        )
    if found.reused:
        say(f"  detections of an earlier comparison: {found.file}")
    return found


def _differences(systems: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
    """In what the runs differ that are models; seeds of a system are numbered."""
    from smidgen.evaluation.run_differences import environment_differences, experiment_differences

    models = {
        name if len(runs) == 1 else seed_name(name, number): run
        for name, runs in systems.items()
        for number, run in enumerate(runs)
        if not is_results(run)
    }
    return {
        "experiment_differences": experiment_differences(models),
        "environment_differences": environment_differences(models),
    }


def _write(found: Comparison, values: Mapping[str, Any], out: Path) -> None:
    import json

    from smidgen.analysis.comparison_chart import comparison_picture
    from smidgen.checkpoints.atomic_write import write_atomically

    text = json.dumps(values, indent=2) + "\n"
    write_atomically(out / "comparison.json", lambda partial: partial.write_text(text, encoding="utf-8"))
    comparison_picture(found, values["data"]).save(out / "comparison.png")
    say(f"written to {out}")


def _show(found: Comparison, values: Mapping[str, Any], console: Console) -> None:
    marks = _marks(values["runs"])
    console.print(f"{found.protocol.label} on {found.images} images of {values['data']}", markup=False)
    for name, runs in values["runs"].items():
        console.print(f"  {marks[name]}: {name}" + (f", {len(runs)} seeds" if len(runs) > 1 else ""), markup=False)
    console.print(_figures(found, marks))
    if any(len(runs) > 1 for runs in values["runs"].values()):
        console.print(_seeds(found, marks))
    for metric in found.metrics:
        console.print(f"  {metric}: {found.size_in_words(metric)}, {found.objects[metric]} objects")
    if values["skipped"]:
        console.print(f"{len(values['skipped'])} images could not be read: their objects count as missed")
    for sentence in found.cautions():
        console.print(sentence)
    for title, key in (("experiments", "experiment_differences"), ("environments", "environment_differences")):
        _show_differences(title, values[key], marks, console)


def _marks(runs: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """A letter for each system, and with a number for each of its seeds: names are too long for a table."""
    letters = {name: ascii_uppercase[place] if place < 26 else str(place) for place, name in enumerate(runs)}
    seeds = {
        seed_name(name, number): f"{letters[name]}{number + 1}"
        for name, of_system in runs.items()
        for number in range(len(of_system))
    }
    return seeds | letters


def seed_name(name: str, number: int) -> str:
    """What one of several seeds of a system is called."""
    return f"{name}[{number + 1}]"


def _figures(found: Comparison, marks: Mapping[str, str]) -> Any:
    """A row per metric and system, narrow enough for 80 columns."""
    from smidgen.evaluation.comparison import CANNOT_TELL

    places = 1 if found.protocol.unit == "per_cent" else 3
    rows = []
    for metric in found.metrics:
        for place, system in enumerate(found.systems):
            one, other = system.figures[metric], system.differences.get(metric)
            row = ["" if place else metric, marks[system.name], _interval(one, f".{places}f")]
            if other is not None:
                verdict = "cannot tell" if other.verdict == CANNOT_TELL else other.verdict
                row += [_interval(other, f"+.{places}f"), f"{other.better:.0%}", verdict]
            rows.append([*row, "", "", ""][:6])
    first = marks[found.systems[0].name]
    columns = ("", "run", "figure", f"difference to {first}", "better", "verdict")
    title = f"95 % intervals over {found.samples} resamplings; better: in how many of them"
    return table(title, columns, rows)


def _interval(one: Estimate | Difference, form: str) -> str:
    return f"{one.value:{form}} [{one.low:{form}}, {one.high:{form}}]"


def _seeds(found: Comparison, marks: Mapping[str, str]) -> Any:
    """How far the runs of one system are apart."""
    rows = [
        [metric, marks[system.name], system.figures[metric].spread, "  ".join(f"{v:.3f}" for v in of_seeds)]
        for metric in found.metrics
        for system in found.systems
        if len(of_seeds := system.figures[metric].by_run) > 1
    ]
    return table("Over seeds: standard deviation, and each seed's run", ("", "run", "spread", "runs"), rows)


def _show_differences(
    title: str, differences: Mapping[str, Mapping[str, Any]], marks: Mapping[str, str], console: Console
) -> None:
    if not differences:
        return
    console.print(f"In what the {title} differ:")
    for field, values in list(differences.items())[:SHOWN_FIELDS]:
        words = "; ".join(f"{marks[name]} {value}" for name, value in values.items())
        console.print(f"  {field}: {words}", markup=False)
    if len(differences) > SHOWN_FIELDS:
        console.print(f"  ... and {len(differences) - SHOWN_FIELDS} more fields; --json has all")
