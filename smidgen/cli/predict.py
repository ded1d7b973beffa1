"""`smidgen predict`: detections of any number of images as pictures and one JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from smidgen.cli.detector import Optimized, load_detector
from smidgen.cli.failures import ExitCode, usage_error
from smidgen.cli.options import AsJson, BatchSize, Device, Run, chosen_device
from smidgen.cli.output import Result, say
from smidgen.cli.progress import track


def predict(
    run: Run,
    images: Annotated[list[str], typer.Argument(help="Image files, folders or quoted glob patterns.")],
    out: Annotated[Path, typer.Option(help="Folder for pictures/ and predictions.json.")],
    score: Annotated[float, typer.Option(help="Lowest score to keep.")] = 0.3,
    max_detections: Annotated[int, typer.Option(help="Most detections per image.")] = 300,
    batch_size: BatchSize = 1,
    device: Device = "auto",
    optimized: Optimized = None,
    pictures: Annotated[bool, typer.Option(help="Draw a picture of every image.")] = True,
    insets: Annotated[int, typer.Option(min=0, help="Zoomed windows onto the smallest detections of a picture.")] = 0,
    as_json: AsJson = False,
) -> Result:
    """Detect objects in images. Images that cannot be read are reported and skipped."""
    from smidgen.data import UnreadableImageError
    from smidgen.data.image_files import shown
    from smidgen.inference import common_root, picture_path, predictions_file, write_picture
    from smidgen.inference import predict as detect

    model = load_detector(run, chosen_device(device), optimized)
    root = common_root(images)
    with predictions_file(out / "predictions.json") as writer:

        def skip(error: UnreadableImageError) -> None:
            say(f"skipped: {error}")
            writer.add_unreadable(error.path, error.reason)

        found = detect(
            model,
            images,
            score=score,
            max_detections=max_detections,
            batch_size=batch_size,
            device=chosen_device(device),
            on_unreadable=skip,
        )
        for detections in track(found, "images"):
            writer.add(detections)
            if pictures:
                place = picture_path(Path(detections.file), root, out / "pictures")
                write_picture(detections, place, insets=insets)
        counts = writer.counts
        if not (writer.images or writer.unreadable):
            raise usage_error(
                f"found no images in {', '.join(map(shown, images))}", "quote patterns; folders are searched by suffix"
            )

    def show(console: Console) -> None:
        skipped = f", {counts['unreadable']} unreadable" if counts["unreadable"] else ""
        console.print(
            f"{counts['detections']} detections in {counts['images']} images{skipped}: {shown(out)}", markup=False
        )

    code = ExitCode.OK if counts["images"] else ExitCode.FAILED
    return Result({}, show, code, document=out / "predictions.json")
