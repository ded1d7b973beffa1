"""`smidgen sweep-size`: what is the smallest object a model can see."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from smidgen.cli.failures import usage_error
from smidgen.cli.options import AsJson, BatchSize, Data, Device, Run, chosen_device
from smidgen.cli.output import Result, say, table
from smidgen.cli.progress import Progress

if TYPE_CHECKING:
    from smidgen.data import DetectionDataset
    from smidgen.evaluation.size_sweep import SizeSweep

COLUMNS = ("scale", "side_low_px", "side_high_px", "mean_side_px", "objects", "found", "recall", "low", "high")


def sweep_size(
    run: Run,
    data: Data,
    split: Annotated[str, typer.Option(help="Which images: train, val, test ...")] = "val",
    scales: Annotated[
        str, typer.Option(help="By what images are shrunk, in (0, 1], with commas; 1 = as they are.")
    ] = "1,0.8,0.63,0.5,0.4,0.315,0.25,0.2",
    score: Annotated[float, typer.Option(help="Detections from this score on find objects.")] = 0.3,
    iou: Annotated[float, typer.Option(help="From which overlap with its box on an object is found.")] = 0.5,
    images: Annotated[
        int | None, typer.Option(min=1, help="Only so many images, spread evenly over the split.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Resamplings of the images for the 95 % band.")] = 500,
    out: Annotated[
        Path | None, typer.Option(help="Folder for size_sweep.csv, .json and .png; default: RUN/size_sweep.")
    ] = None,
    batch_size: BatchSize = 2,
    device: Device = "auto",
    as_json: AsJson = False,
) -> Result:
    """Recall against object side in pixels, by shrinking the images; the answer in words, a table and a picture."""
    from smidgen.checkpoints import load
    from smidgen.checkpoints.native import checkpoint_folder
    from smidgen.data import open_dataset
    from smidgen.evaluation import size_sweep

    chosen_scales, folder = _scales(scales), out or run / "size_sweep"
    if folder.is_file():
        raise usage_error(f"expected a folder in --out, but {folder} is a file", "choose another --out")
    checkpoint, dataset = checkpoint_folder(run), _spread(open_dataset(data, split), images)
    folder.mkdir(parents=True, exist_ok=True)  # what cannot be written is said before the model is read
    model = load(checkpoint, chosen_device(device))
    say(f"{dataset.layout}: {len(dataset)} images of {dataset.split}")
    for line in dataset.notes.lines():
        say(f"  note: {line}")
    with Progress("images", len(dataset)) as progress:
        found = size_sweep.sweep_size(
            model,
            dataset,
            scales=chosen_scales,
            score=score,
            iou=iou,
            batch_size=batch_size,
            samples=samples,
            progress=lambda done, _: progress.at(done),
        )
    for problem in found.skipped:
        say(f"  left out: {problem}")
    values = {"run": str(run), "data": str(data), **found.to_json(), "files": write_sweep(found, folder)}
    return Result(values, lambda console: _show(found, folder, console))


def write_sweep(found: SizeSweep, folder: Path) -> list[str]:
    """size_sweep.csv (the table), size_sweep.json and size_sweep.png; their paths."""
    import json

    from smidgen.analysis.size_sweep_chart import size_sweep_picture

    texts = {"size_sweep.csv": _csv(found), "size_sweep.json": json.dumps(found.to_json(), indent=2) + "\n"}
    for name, text in texts.items():
        _write(folder / name, text)
    picture = size_sweep_picture(found).save(folder / "size_sweep.png")
    return [*(str(folder / name) for name in texts), str(picture)]


def _write(file: Path, text: str) -> None:
    from smidgen.checkpoints.atomic_write import write_atomically

    write_atomically(file, lambda partial: partial.write_text(text, encoding="utf-8"))


def _csv(found: SizeSweep) -> str:
    import csv
    import io

    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found.rows())
    return text.getvalue()


def _scales(words: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in words.split(","))
    except ValueError:
        raise usage_error(f"expected numbers with commas in --scales, got {words!r}", "as in --scales 1,0.5") from None


def _spread(dataset: DetectionDataset, images: int | None) -> DetectionDataset:
    if images is None or images >= len(dataset):
        return dataset
    return dataset.subset([index * len(dataset) // images for index in range(images)])


def _show(found: SizeSweep, folder: Path, console: Console) -> None:
    settings = found.settings
    title = (
        f"{found.images} images of {settings['split']}, {found.objects} objects at all scales, detections of at least "
        f"{settings['score']:g}, IoU from {settings['iou']:g}"
    )
    rows: list[list[Any]] = [
        [
            f"{row['side_low_px']:.1f} to {row['side_high_px']:.1f}",
            row["objects"],
            row["recall"],
            "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}",
        ]
        for row in found.pooled.rows()
    ]
    console.print(table(title, ["side at the network's input (px)", "objects", "recall", "95 % interval"], rows))
    if found.absent_classes:
        console.print(f"left out, since the model does not know them: {', '.join(found.absent_classes)}", markup=False)
    for sentence in found.in_words():
        console.print(sentence, markup=False)
    console.print(f"each scale's curve and the picture: {folder}", markup=False)
