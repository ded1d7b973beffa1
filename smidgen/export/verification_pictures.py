"""Pictures to compare two detectors on, where no one gives any: rendered scenes, the same every time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from smidgen.data import read_image
from smidgen.data.synthetic import SceneConfig, render_scene

NUM_SCENES = 3
SIDES_PX = (256, 1024)
"""Smallest and largest side that is rendered: what is compared on is resized to its case anyway."""


def rendered_scenes(size_hw: tuple[int, int]) -> list[UInt8[Tensor, "3 H W"]]:
    """Scenes of about this size, with objects in them."""
    height, width = (min(max(side, SIDES_PX[0]), SIDES_PX[1]) for side in size_hw)
    scenes = [render_scene(SceneConfig(size_wh=(width, height)), index)[0] for index in range(NUM_SCENES)]
    return [torch.from_numpy(pixels).permute(2, 0, 1).contiguous() for pixels in scenes]


def opened(files: Iterable[Path]) -> list[UInt8[Tensor, "3 _ _"]]:
    """The user's own pictures. Errors: UnreadableImageError."""
    return [read_image(file) for file in files]
