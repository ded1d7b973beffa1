"""`smidgen evaluate`: a trained model judged by a protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smidgen.cli.detector import Compiled, Optimized, bundle_of, load_detector
from smidgen.cli.failures import usage_error
from smidgen.cli.guide_options import GuideScale, GuideShare, GuideThreshold, chosen_guide, say_looked_at
from smidgen.cli.notes import Notes
from smidgen.cli.options import AsJson, BatchSize, Data, Device, Run, chosen_device
from smidgen.cli.output import Result, say
from smidgen.cli.progress import Progress
from smidgen.cli.tiling_options import (
    Agnostic,
    Bands,
    Flips,
    Memory,
    Merge,
    Overlap,
    Scales,
    Tile,
    ValueRange,
    WholeImage,
    chosen_tiling,
)
from smidgen.cli.training_tiles import say_training_tiles

if TYPE_CHECKING:
    from smidgen.evaluation import Evaluation


def evaluate(
    run: Run,
    data: Data,
    split: Annotated[str, typer.Option(help="Which images: train, val, test ...")] = "val",
    protocol: Annotated[str, typer.Option(help="coco, aitod ..., with or without @version, or a .yaml file.")] = "coco",
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamplings of the images for 95 % intervals; 0 = none.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write; default: a folder in RUN named like the split, and the tiles if any."),
    ] = None,
    batch_size: BatchSize = 2,
    device: Device = "auto",
    optimized: Optimized = None,
    compiled: Compiled = False,
    tile: Tile = None,
    overlap: Overlap = None,
    merge: Merge = None,
    agnostic: Agnostic = False,
    whole_image: WholeImage = False,
    flips: Flips = False,
    scales: Scales = None,
    memory: Memory = None,
    bands: Bands = None,
    value_range: ValueRange = None,
    guide: GuideScale = None,
    guide_threshold: GuideThreshold = None,
    guide_share: GuideShare = None,
    as_json: AsJson = False,
) -> Result:
    """Judge a model on a split: figures by class and by object size; writes predictions.json and evaluation.json."""
    from smidgen.data import open_dataset
    from smidgen.evaluation import load_protocol
    from smidgen.inference import GuidedTiles
    from smidgen.recipes.experiment import EvaluationConfig
    from smidgen.recipes.running import judge

    load_protocol(protocol)
    bundle, where = bundle_of(run), chosen_device(device)
    tiling = chosen_tiling(
        tile,
        None if bundle is None else bundle.tiling,
        overlap=overlap,
        merge=merge,
        agnostic=agnostic,
        whole_image=whole_image,
        flips=flips,
        scales=scales,
        memory=memory,
        bands=bands,
        value_range=value_range,
    )
    if tile is None and tiling is None:
        say_training_tiles(run)
    by = chosen_guide(guide, guide_threshold, guide_share, tiled=tiling is not None)
    model = load_detector(run, where, optimized, compiled)
    _need_a_place(run, out)
    looking = None if by is None else GuidedTiles(model, by, where)
    dataset = open_dataset(data, split)
    say(f"{dataset.layout}: {len(dataset)} images of {dataset.split}")
    for line in dataset.notes.lines():
        say(f"  note: {line}")
    config = EvaluationConfig(protocol=protocol, bootstrap=bootstrap, batch_size=batch_size)
    with Progress("images", len(dataset)) as progress, Notes() as notes:
        found = judge(
            model,
            dataset,
            config,
            device=where,
            tiling=tiling,
            guide=looking,
            progress=lambda done, _: progress.at(done),
            on_note=notes.say,
        )
    say_looked_at(looking)
    # Figures of tiles and of whole images never replace each other unasked.
    folder = out or run / (dataset.split if tiling is None else f"{dataset.split}-tile{tiling.tile_px}")
    write_evaluation(found, folder)
    say(f"written to {folder}")
    return Result(found.to_json(), lambda console: console.print(found.renderable()))


def _need_a_place(run: Path, out: Path | None) -> None:
    """Raises ValueError where the default folder cannot be, or would hide a repository of the hub behind its name."""
    if out is None and not run.is_dir():
        raise usage_error(f"expected a folder for the figures, since {run} is none itself", "give --out")


def write_evaluation(found: Evaluation, folder: Path) -> None:
    """predictions.json (COCO results) and evaluation.json (figures) of one evaluation."""
    import json

    from smidgen.checkpoints.atomic_write import write_atomically
    from smidgen.evaluation import write_predictions

    folder.mkdir(parents=True, exist_ok=True)
    write_predictions(folder / "predictions.json", found.predictions)
    text = json.dumps(found.to_json(), indent=2) + "\n"
    write_atomically(folder / "evaluation.json", lambda partial: partial.write_text(text, encoding="utf-8") and None)
