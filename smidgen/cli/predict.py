"""`smidgen predict`: detections of any number of images as pictures and one JSON."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from smidgen.cli.detector import Compiled, Optimized, load_detector
from smidgen.cli.failures import ExitCode, usage_error
from smidgen.cli.guide_options import GuideScale, GuideShare, GuideThreshold, chosen_guide
from smidgen.cli.options import AsJson, BatchSize, Device, Run, chosen_device
from smidgen.cli.output import Result, say
from smidgen.cli.predict_archive import (
    Engine,
    RayAddress,
    ShardImages,
    Workers,
    execution,
    need_an_engine,
    predict_to_tables,
)
from smidgen.cli.predict_video import Every, Film, FramesPerSecond, are_videos, need_a_video, predict_videos
from smidgen.cli.progress import track
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

if TYPE_CHECKING:
    from smidgen.inference import PredictionsWriter
    from smidgen.structures import Detections


def predict(
    run: Run,
    images: Annotated[
        list[str],
        typer.Argument(
            help="Image files, folders or quoted glob patterns; or videos, frames named like %05d.png, and streams."
        ),
    ],
    out: Annotated[str, typer.Option(help="Folder for pictures/ and predictions.json; a URL, too, with --engine.")],
    score: Annotated[float, typer.Option(help="Lowest score to keep.")] = 0.3,
    max_detections: Annotated[
        int | None, typer.Option(help="Most detections per image. [default: 300; with --tile: all]")
    ] = None,
    batch_size: BatchSize = 1,
    device: Device = "auto",
    optimized: Optimized = None,
    compiled: Compiled = False,
    pictures: Annotated[bool, typer.Option(help="Draw a picture of every image.")] = True,
    insets: Annotated[int, typer.Option(min=0, help="Zoomed windows onto the smallest detections of a picture.")] = 0,
    engine: Engine = None,
    workers: Workers = 1,
    shard_images: ShardImages = None,
    ray_address: RayAddress = None,
    film: Film = None,
    every: Every = 1,
    fps: FramesPerSecond = None,
    geojson: Annotated[
        bool, typer.Option("--geojson", help="Write predictions.geojson, too, for georeferenced images.")
    ] = False,
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
    """Detect objects in images. Images that cannot be read are reported and skipped."""
    tiling = chosen_tiling(
        tile,
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
    chosen = chosen_guide(guide, guide_threshold, guide_share, tile=tile)
    from smidgen.data.image_files import shown
    from smidgen.inference import common_root, geojson_file, picture_path, predictions_file, write_picture
    from smidgen.inference.loaded_images import MOST_DETECTIONS

    videos = engine is None and are_videos(images, fps)
    if not videos:
        need_a_video(film, every, fps)
    if engine is None:
        need_an_engine(workers, shard_images, ray_address)
    if videos and tiling is not None:
        raise usage_error("--tile is not offered for videos", "leave it out")
    model = load_detector(run, chosen_device(device), optimized, compiled)
    most = MOST_DETECTIONS if max_detections is None else max_detections
    if engine is not None:
        if tiling is not None:
            raise usage_error("--tile is not offered with --engine", "leave one of them out")
        how = execution(engine, workers, batch_size, chosen_device(device), ray_address)
        return predict_to_tables(model, images, out, how, score=score, max_detections=most, shard_images=shard_images)
    if videos:
        frames = {"score": score, "max_detections": most, "batch_size": batch_size, "device": chosen_device(device)}
        return predict_videos(model, images, Path(out), film, every=every, fps=fps, **frames)
    root, folder = common_root(images), Path(out)
    with ExitStack() as files:
        described = None if tiling is None else tiling.described()
        writer = files.enter_context(predictions_file(folder / "predictions.json", described))
        map_writer = files.enter_context(geojson_file(folder / "predictions.geojson")) if geojson else None
        limits = {"score": score, "max_detections": max_detections, "batch_size": batch_size}
        settings = {**limits, "tiling": tiling, "guide": chosen}
        for detections in track(_found(model, images, writer, device=chosen_device(device), **settings), "images"):
            writer.add(detections)
            if map_writer is not None:
                map_writer.add(detections)
            if pictures:
                place = picture_path(Path(detections.file), root, folder / "pictures")
                write_picture(detections, place, insets=insets, pixels=None if tiling is None else tiling.pixels)
        counts = writer.counts
        if not (writer.images or writer.unreadable):
            raise usage_error(
                f"found no images in {', '.join(map(shown, images))}", "quote patterns; folders are searched by suffix"
            )
        if map_writer is not None and map_writer.without_place:
            say(f"{len(map_writer.without_place)} images are not georeferenced and not in predictions.geojson")

    def show(console: Console) -> None:
        skipped = f", {counts['unreadable']} unreadable" if counts["unreadable"] else ""
        console.print(
            f"{counts['detections']} detections in {counts['images']} images{skipped}: {shown(out)}", markup=False
        )

    code = ExitCode.OK if counts["images"] else ExitCode.FAILED
    return Result({}, show, code, document=folder / "predictions.json")


def _found(model: Any, images: list[str], writer: PredictionsWriter, **settings: Any) -> Iterator[Detections]:
    """Detections of the images, one after the other; what cannot be read is said and written down."""
    from smidgen.data import UnreadableImageError
    from smidgen.inference import predict as detect

    def skip(error: UnreadableImageError) -> None:
        say(f"skipped: {error}")
        writer.add_unreadable(error.path, error.reason)

    return detect(model, images, on_unreadable=skip, on_note=say, **settings)
