"""`smidgen predict`: options of detecting in images, archives and videos, which each have a file of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from smidgen.cli.detector import Compiled, Optimized, bundle_of, load_detector
from smidgen.cli.failures import usage_error
from smidgen.cli.guide_options import GuideScale, GuideShare, GuideThreshold, chosen_guide
from smidgen.cli.options import AsJson, BatchSize, Device, Run, chosen_device
from smidgen.cli.output import Result
from smidgen.cli.predict_archive import (
    Engine,
    RayAddress,
    ShardImages,
    Workers,
    execution,
    need_an_engine,
    predict_to_tables,
)
from smidgen.cli.predict_images import Pictures, predict_images
from smidgen.cli.predict_video import Every, Film, FramesPerSecond, are_videos, need_a_video, predict_videos
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

LEAST_SCORE = 0.3


def predict(
    run: Run,
    images: Annotated[
        list[str],
        typer.Argument(
            help="Image files, folders or quoted glob patterns; or videos, frames named like %05d.png, and streams."
        ),
    ],
    out: Annotated[str, typer.Option(help="Folder for pictures/ and predictions.json; a URL, too, with --engine.")],
    score: Annotated[
        float | None, typer.Option(help="Lowest score to keep.", show_default="0.3; an exported file's own")
    ] = None,
    max_detections: Annotated[
        int | None, typer.Option(help="Most detections per image.", show_default="300; with --tile: all")
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
    videos = engine is None and are_videos(images, fps)
    if not videos:
        need_a_video(film, every, fps)
    if engine is None:
        need_an_engine(workers, shard_images, ray_address)
    if geojson and (videos or engine is not None):
        raise usage_error("--geojson is not offered with --engine or for videos", "leave it out")
    bundle = bundle_of(run)
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
    answers: dict[str, Any] = {
        "score": score if score is not None else bundle.score if bundle is not None else LEAST_SCORE,
        "max_detections": max_detections,
        "tiling": tiling,
        "guide": chosen_guide(guide, guide_threshold, guide_share, tiled=tiling is not None),
    }
    where = chosen_device(device)
    model = load_detector(run, where, optimized, compiled)
    if tiling is not None:
        answers["tiling"] = tiling.for_model(model)  # as it will be written down
    if engine is not None:
        how = execution(engine, workers, batch_size, where, ray_address)
        return predict_to_tables(model, images, out, how, shard_images=shard_images, **answers)
    answers |= {"batch_size": batch_size, "device": where}
    if videos:
        return predict_videos(model, images, Path(out), film, every=every, fps=fps, **answers)
    return predict_images(model, images, Path(out), Pictures(pictures, insets, geojson), **answers)
