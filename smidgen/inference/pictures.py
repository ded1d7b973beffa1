"""Where the drawn picture of an image goes: a mirror of the sources' folders, so that equal names never collide."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
from PIL import Image

from smidgen.checkpoints.atomic_write import write_atomically
from smidgen.data import read_image
from smidgen.data.windows import DecodedImage, PixelRules, WindowReader, open_windows
from smidgen.inference.drawing import draw_detections
from smidgen.inference.large_pictures import LARGEST_SIDE_DRAWN, draw_large
from smidgen.structures import Detections

_KEPT_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


def picture_path(file: Path, root: Path, folder: Path) -> Path:
    """Place of a file's picture below `folder`: its path relative to `root`, as .png unless it is a .jpg or .png."""
    relative = file.absolute().relative_to(root)
    if relative.suffix.lower() not in _KEPT_SUFFIXES:
        relative = relative.with_name(relative.name + ".png")
    return folder / relative


def write_picture(
    detections: Detections, path: Path | str, *, insets: int = 0, pixels: PixelRules | None = None
) -> None:
    """Draw an image's detections and put the picture at `path`, atomically.

    What is larger than 4096 px a side is drawn small, with insets where most was found. pixels: how rasters were
    shown to the model; None where it saw the image as Pillow decodes it. Raises UnreadableImageError.
    """
    path = Path(path)
    with _as_the_model_saw_it(Path(detections.file), pixels) as reader:
        if max(detections.image_hw) > LARGEST_SIDE_DRAWN:
            picture = draw_large(reader, detections, insets=insets or None)
        else:
            picture = draw_detections(_whole(reader), detections, insets=insets)
    kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
    write_atomically(path, lambda partial: picture.save(partial, format=kind, quality=92))


def _as_the_model_saw_it(file: Path, pixels: PixelRules | None) -> AbstractContextManager[WindowReader]:
    """Pillow decodes few of the rasters that have windows (not five bands, 16 bits in color, or floats)."""
    if pixels is None:
        return nullcontext(DecodedImage(read_image(file)))
    return open_windows(file, pixels, most_bytes=sys.maxsize)  # what was not too large to be looked at


def _whole(reader: WindowReader) -> Image.Image:
    height, width = reader.size_hw
    pixels = reader.read((0, 0, width, height))
    if pixels is None:  # no data
        return Image.new("RGB", (width, height))
    return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))
