"""`smidgen score`: anybody's predictions judged by any protocol."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from smidgen.cli.failures import usage_error
from smidgen.cli.options import AsJson
from smidgen.cli.output import Result, say, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from smidgen.analysis import ErrorAnalysis
    from smidgen.evaluation import Evaluation, Protocol


def score(
    ground_truth: Annotated[
        Path | None,
        typer.Option(help="COCO json, a dataset folder whose layout is recognized, or a folder of VisDrone txt files."),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="COCO results json, what `smidgen predict` wrote, or a folder of VisDrone txt files."),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="coco, aitod ..., with or without @version, or a .yaml file; `list` shows them.")
    ] = "coco",
    split: Annotated[
        str | None, typer.Option(help="Which images of a dataset folder with several splits: train, val, test ...")
    ] = None,
    windows: Annotated[
        Path | None,
        typer.Option(help="The predictions are of windows, which this json lists: put them together per image first."),
    ] = None,
    window_scale: Annotated[
        float, typer.Option(min=0.01, help="Pixels of the predictions for one of the image (800 px at 1200: 1.5).")
    ] = 1.0,
    class_agnostic: Annotated[
        bool, typer.Option("--class-agnostic", help="Found or not, whatever the class: all classes are one.")
    ] = False,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamplings of the images for 95 % intervals; 0 = none.")] = 0,
    errors: Annotated[
        Path | None, typer.Option(help="Folder for what goes wrong, by object size: pictures, and errors.json.")
    ] = None,
    as_json: AsJson = False,
) -> Result:
    """Judge predictions from files: figures by class and by object size, under a protocol that is said with them."""
    from smidgen.evaluation import load_protocol

    if protocol == "list":
        return _protocols()
    rules = load_protocol(protocol)
    if errors is not None and errors.is_file():
        raise usage_error(f"expected a folder in --errors, but {errors} is a file", "choose another --errors")
    if ground_truth is None or predictions is None:
        missing = "--ground-truth" if ground_truth is None else "--predictions"
        raise usage_error(f"missing option {missing}", "see `smidgen score --help`, or `--protocol list`")
    truth, results, settings = _read(ground_truth, split, predictions, windows, window_scale)
    if class_agnostic:
        from smidgen.evaluation.class_agnostic import without_classes

        truth, results = without_classes(truth, results)
    settings["class_agnostic"] = class_agnostic
    found = _judged(truth, results, rules, settings, bootstrap)
    for doubt in found.settings["doubts"]:
        say(f"  note: {doubt}")
    if errors is None:
        return Result(found.to_json(), lambda console: console.print(found.renderable()))
    analysis = _analyzed(truth, results, rules)
    pictures = write_errors(analysis, errors)

    def show(console: Console) -> None:
        console.print(found.renderable())
        console.print(_error_table(analysis))
        console.print(f"{len(pictures)} pictures and errors.json in {errors}", markup=False)

    return Result({**found.to_json(), "errors": {**analysis.to_json(), "pictures": pictures}}, show)


def _analyzed(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], protocol: Protocol) -> ErrorAnalysis:
    from smidgen.analysis import analyze_errors
    from smidgen.evaluation.annotations import read_ground_truth, read_results

    say("error analysis ...")
    columns = read_ground_truth(truth)
    return analyze_errors(columns, read_results(results, columns), protocol)


def write_errors(analysis: ErrorAnalysis, folder: Path) -> list[str]:
    """errors.json and one picture for each part of the analysis; the pictures' paths."""
    import json

    from smidgen.checkpoints.atomic_write import write_atomically

    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(analysis.to_json(), indent=2) + "\n"
    write_atomically(folder / "errors.json", lambda partial: partial.write_text(text, encoding="utf-8"))
    return [str(picture.save(folder / f"{name}.png")) for name, picture in analysis.pictures().items()]


def _error_table(analysis: ErrorAnalysis) -> Table:
    """What mending each type of error would gain, and how many there are."""
    by_size = analysis.errors.by_size
    rows = [
        [kind, *(f"{100 * one.gain[kind]:.1f} ({one.counts[kind]})" if one.objects else "-" for one in by_size)]
        for kind in by_size[0].counts
    ]
    title = "Types of error by size: points of AP that mending them gains (how many there are)"
    return table(title, ["", *(one.size for one in by_size)], rows)


def _read(
    ground_truth: Path, split: str | None, predictions: Path, windows: Path | None, window_scale: float
) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]], dict[str, Any]]:
    """COCO ground truth, COCO results of its images, and where they came from."""
    from smidgen.evaluation.ground_truth_source import open_ground_truth
    from smidgen.evaluation.prediction_source import open_predictions

    truth = open_ground_truth(ground_truth, split)
    _say_source("ground truth", truth.layout, truth.notes)
    settings: dict[str, Any] = {"ground_truth": str(ground_truth), "predictions": str(predictions)}
    if windows is None:
        detections = open_predictions(predictions, truth.document)
        results: Sequence[Mapping[str, Any]] = detections.results
    else:
        from smidgen.evaluation.window_merging import merge_windows, read_windows

        places = read_windows(windows, truth.document["images"], scale=window_scale)
        images = [{"id": window, "file_name": place.file} for window, place in places.items()]
        detections = open_predictions(predictions, {**truth.document, "images": images})
        results = merge_windows(detections.results, places)
        settings |= {
            "windows": str(windows),
            "window_scale": window_scale,
            "detections_in_windows": len(detections.results),
        }
    _say_source("predictions", detections.layout, detections.notes)
    if not results:
        say("  note: there are no detections")
    return truth.document, results, settings


def _say_source(what: str, layout: str, notes: Sequence[str]) -> None:
    say(f"{what}: {layout}")
    for line in notes:
        say(f"  note: {line}")


def _judged(
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    protocol: Protocol,
    settings: dict[str, Any],
    bootstrap: int,
) -> Evaluation:
    from smidgen.evaluation import bootstrap_intervals
    from smidgen.evaluation import score as judge

    try:
        found = judge(truth, results, protocol, settings=settings)
    except ValueError as error:
        error.add_note(f"ground truth: {settings['ground_truth']}; predictions: {settings['predictions']}")
        raise
    if not bootstrap:
        return found
    metrics = [name for name, figure in protocol.figures.items() if figure.measure == "average_precision"]
    intervals = bootstrap_intervals(truth, results, protocol, metrics=metrics, samples=bootstrap)
    return replace(found, intervals={name: bounds for name, bounds in intervals.items() if found.metrics[name] != -1})


def _protocols() -> Result:
    """The protocols that come with the package."""
    from smidgen.evaluation import list_protocols, load_protocol

    known = [load_protocol(name) for name in list_protocols()]
    values = {"protocols": [{"protocol": one.label, **one.settings(), "figures": list(one.figures)} for one in known]}

    def show(console: Console) -> None:
        for one in known:
            console.print(f"[bold]{one.label}[/bold]")
            console.print(f"  sizes (square root of area, px): {_bins(one)}")
            console.print(
                f"  detections per {one.limit_per.replace('_', ' ')}: {', '.join(map(str, one.detection_limits))}"
            )
            console.print(f"  figures: {', '.join(one.figures)}")

    return Result(values, show)


def _bins(protocol: Protocol) -> str:
    bounds = ((name, low**0.5, high**0.5) for name, (low, high) in protocol.areas.items())
    return ", ".join(f"{name} {low:g} to {f'{high:.4g}' if high < 1e5 else 'any'}" for name, low, high in bounds)
