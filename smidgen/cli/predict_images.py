"""`smidgen predict` of images: a picture of each, and one predictions.json, image by image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from smidgen.cli.failures import ExitCode, usage_error
from smidgen.cli.guide_options import say_looked_at
from smidgen.cli.notes import Notes
from smidgen.cli.output import Result, say
from smidgen.cli.progress import track

if TYPE_CHECKING:
    from torch import nn

    from smidgen.inference import Guide, PredictionsWriter, Tiling
    from smidgen.structures import Detections


@dataclass(frozen=True, slots=True)
class Pictures:
    """What is drawn. wanted: a picture of each image. insets: zoomed windows in it. geojson: a map, too."""

    wanted: bool
    insets: int
    geojson: bool


def predict_images(
    model: nn.Module,
    images: Sequence[str],
    out: Path,
    pictures: Pictures,
    *,
    device: str,
    tiling: Tiling | None,
    guide: Guide | None,
    **how: Any,
) -> Result:
    """Detect in images and write what was found to `out`; exit code 1 where no image was readable.

    how: what `smidgen.inference.predict` takes besides.
    """
    from smidgen.inference import GuidedTiles, common_root, geojson_file, predictions_file

    document = out / "predictions.json"
    looking = None if guide is None else GuidedTiles(model, guide, device)
    with ExitStack() as files:
        writer = files.enter_context(predictions_file(document, None if tiling is None else tiling.described()))
        places = files.enter_context(geojson_file(out / "predictions.geojson")) if pictures.geojson else None
        how |= {"device": device, "tiling": tiling, "guide": looking, "on_note": files.enter_context(Notes()).say}
        found = _found(model, images, writer, **how)
        root = common_root(images)
        for detections in track(found, "images"):
            writer.add(detections)
            if places is not None:
                places.add(detections)
            if pictures.wanted:
                _draw(detections, root, out, pictures.insets, tiling)
        _refuse_nothing(writer, images)
        if places is not None and places.without_place:
            say(f"{len(places.without_place)} images have no known place on Earth and are not in predictions.geojson")
        writer.guide = say_looked_at(looking)
    return _result(writer.counts, out, document)


def _found(model: nn.Module, images: Sequence[str], writer: PredictionsWriter, **settings: Any) -> Iterator[Detections]:
    """Detections of the images, one after the other; what cannot be read is said and written down."""
    from smidgen.data import UnreadableImageError
    from smidgen.inference import predict

    def skip(error: UnreadableImageError) -> None:
        say(f"skipped: {error}")
        writer.add_unreadable(error.path, error.reason)

    return predict(model, images, on_unreadable=skip, **settings)


def _draw(detections: Detections, root: Path, out: Path, insets: int, tiling: Tiling | None) -> None:
    from smidgen.inference import picture_path, write_picture

    place = picture_path(Path(detections.file), root, out / "pictures")
    write_picture(detections, place, insets=insets, pixels=None if tiling is None else tiling.pixels)


def _refuse_nothing(writer: PredictionsWriter, images: Sequence[str]) -> None:
    from smidgen.data.image_files import shown

    if not (writer.images or writer.unreadable):
        raise usage_error(
            f"found no images in {', '.join(map(shown, images))}", "quote patterns; folders are searched by suffix"
        )


def _result(counts: dict[str, int], out: Path, document: Path) -> Result:
    from smidgen.data.image_files import shown

    def show(console: Console) -> None:
        skipped = f", {counts['unreadable']} unreadable" if counts["unreadable"] else ""
        console.print(
            f"{counts['detections']} detections in {counts['images']} images{skipped}: {shown(out)}", markup=False
        )

    return Result({}, show, ExitCode.OK if counts["images"] else ExitCode.FAILED, document=document)
