"""Where the drawn picture of an image goes: a mirror of the sources' folders, so that equal names never collide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from smidgen.checkpoints.atomic_write import write_atomically
from smidgen.data import read_image
from smidgen.data.windows import PixelRules, open_windows
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

    What is larger than 4096 px a side is drawn small, with insets where most was found. pixels: how rasters are
    shown.
    """
    path = Path(path)
    if max(detections.image_hw) > LARGEST_SIDE_DRAWN:
        with open_windows(Path(detections.file), pixels) as reader:
            picture = draw_large(reader, detections, insets=insets or None)
    else:
        shown = read_image(detections.file).permute(1, 2, 0).numpy()
        picture = draw_detections(Image.fromarray(np.ascontiguousarray(shown)), detections, insets=insets)
    kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
    write_atomically(path, lambda partial: picture.save(partial, format=kind, quality=92))
