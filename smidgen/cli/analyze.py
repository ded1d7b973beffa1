"""`smidgen analyze`: pictures and tables of what a model does with its images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from smidgen.cli.failures import usage_error
from smidgen.cli.options import AsJson, BatchSize, Data, Device, Run, chosen_device
from smidgen.cli.output import Result, say, table
from smidgen.cli.progress import Progress
from smidgen.cli.run_settings import EXPERIMENT_FILE

if TYPE_CHECKING:
    from smidgen.analysis.explanation import Explanation
    from smidgen.evaluation import Protocol


def analyze(
    run: Run,
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for explanation.html, tables.json, objects.csv and the pictures.")],
    split: Annotated[str, typer.Option(help="Which images: train, val, test ...")] = "val",
    images: Annotated[int, typer.Option(min=0, help="How many of the first images are drawn.")] = 6,
    receptive_field: Annotated[
        int, typer.Option(min=0, help="Measure the effective receptive field over this many images (needs gradients).")
    ] = 0,
    protocol: Annotated[
        str | None, typer.Option(help="coco, aitod ..., or a .yaml file; default: the run's own, else coco.")
    ] = None,
    score: Annotated[float, typer.Option(min=0, max=1, help="An object counts as found from this score on.")] = 0.3,
    batch_size: BatchSize = 2,
    device: Device = "auto",
    as_json: AsJson = False,
) -> Result:
    """Explain a model: which objects it missed, at which stage and why, its errors by size, its inside; as a page."""
    from smidgen.analysis import explain
    from smidgen.analysis.loss_stages import LossRules
    from smidgen.checkpoints import load
    from smidgen.checkpoints.native import checkpoint_folder
    from smidgen.data import open_dataset
    from smidgen.evaluation import load_protocol

    if out.is_file():
        raise usage_error(f"expected a folder in --out, but {out} is a file", "choose another --out")
    judge = load_protocol(protocol) if protocol is not None else _protocol_of(run)
    checkpoint, dataset = checkpoint_folder(run), open_dataset(data, split)
    out.mkdir(parents=True, exist_ok=True)  # what cannot be written is said before the model is read
    model = load(checkpoint, chosen_device(device))
    say(f"{dataset.layout}: {len(dataset)} images of {dataset.split}")
    for line in dataset.notes.lines():
        say(f"  note: {line}")
    with Progress("images", len(dataset)) as progress:
        found = explain(
            model,
            dataset,
            out,
            images=images,
            batch_size=batch_size,
            receptive_field=receptive_field,
            protocol=judge,
            rules=LossRules(score_floor=score),
            progress=lambda done, _: progress.at(done),
        )
    return Result(_values(found, out), lambda console: _show(found, console))


def _protocol_of(run: Path) -> Protocol:
    """The one that the run was evaluated by, where it says so and the protocol is still there; else COCO's."""
    from smidgen.evaluation import load_protocol
    from smidgen.recipes.experiment import read_experiment

    file = next(
        (folder / EXPERIMENT_FILE for folder in (run, run.parent) if (folder / EXPERIMENT_FILE).is_file()), None
    )
    if file is None:
        return load_protocol("coco")
    try:
        return load_protocol(read_experiment(file).evaluation.protocol)
    except (ValueError, OSError) as error:
        say(f"  note: judged by coco, as the run's own protocol cannot be had: {error}")
        return load_protocol("coco")


def _values(found: Explanation, out: Path) -> dict[str, Any]:
    return {
        "out": str(out),
        "page": str(found.page),
        "tables": str(found.tables),
        "pictures": [str(file) for file in found.pictures],
        "found": int(found.losses.lost.found.sum()),
        "missed": int(found.losses.lost.table.sum()),
        **found.measured(),
        "missing": found.missing,
    }


def _show(found: Explanation, console: Console) -> None:
    _show_losses(found, console)
    if found.origins is not None:
        values = found.origins.to_json()
        columns = ["level on which the query started", *(f"stride {stride}" for stride in values["strides"])]
        rows = [["all queries", *values["queries"]]]
        rows += [[f"objects {row['size']}", *row["matched_by_level"]] for row in values["by_size"]]
        console.print(table("Queries", columns, rows))
    measured = found.measured()
    if measured["query_activation"] is not None:
        columns = ["queries are active by", "Gini", "part of the top fifth", "ever active"]
        rows = [
            [name, figures["gini"], figures["pareto_20"], figures["active_fraction"]]
            for name, figures in measured["query_activation"]["definitions"].items()
        ]
        console.print(table("Activity of the queries", columns, rows))
    if measured["quality_assignment"] is not None:
        columns = ["decoder layer", "queries per object", "mean IoU", "IoU below 0.1", "contested"]
        keys = ("positives_per_object", "mean_iou", "poor", "contested")
        rows = [
            [row["layer"] + 1, *("-" if row[key] is None else row[key] for key in keys)]
            for row in measured["quality_assignment"]["layers"]
        ]
        console.print(table("Queries that answer for an object on earlier layers", columns, rows))
    if measured["computed_shares"] is not None:
        rows = [[row[key] for key in ("stride", "keys", "computed")] for row in measured["computed_shares"]["levels"]]
        console.print(table("Share of the sparse levels' cells", ["stride", "keys", "computed"], rows))
    best = measured["detection_counts"]["best_threshold"]
    console.print(f"as many detections as objects at a score of about {best:g}", markup=False)
    if found.counting is not None:
        console.print(f"counted into the right class: {found.counting.accuracy:.1%} of images", markup=False)
    for kind, reason in found.missing.items():
        console.print(f"no {kind.replace('_', ' ')}: {reason}", markup=False)
    console.print(f"{len(found.pictures)} pictures, explained in {found.page}", markup=False)


def _show_losses(found: Explanation, console: Console) -> None:
    """Stages by sizes, and the protocol's first figures."""
    values = found.losses.lost.to_json()
    rows = [[row["words"], *row["missed_by_size"], row["missed"]] for row in values["stages"] if row["missed"]]
    rows += [["found", *values["found_by_size"], values["found"]]]
    rows += [["objects", *values["objects_by_size"], values["objects"]]]
    console.print(table("Where objects were lost", ["stage", *values["sizes"], "all"], rows))
    figures = ", ".join(f"{name} {value}" for value, name in found.judged.headlines())
    console.print(f"{found.judged.evaluation.protocol}: {figures}", markup=False)
