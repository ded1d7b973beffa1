"""A sprite at a place and heading, rendered at supersampling: what it covers, its tight box, its color and height."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from smidgen.data.synthetic.light import Light
from smidgen.data.synthetic.sprite import Sprite, SpriteLevel
from smidgen.data.synthetic.surface import Surface

DETAIL = 0.55  # sprite pixels per subpixel that are enough, since subpixels are averaged


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a sprite goes.

    x, y: center in meters. heading: of travel, in radians (0 = right, pi/2 = down). stretch: on length and width.
    """

    x: float
    y: float
    heading: float
    stretch: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """What a stamped sprite adds to the image.

    x, y: pixel of the patch's top left corner (may be negative). coverage: share of each pixel.
    premultiplied: color times coverage. height: meters. box_xyxy: tight box of the whole thing, also outside the image.
    """

    x: int
    y: int
    coverage: Float[np.ndarray, "h w"]
    premultiplied: Float[np.ndarray, "h w 3"]
    height: Float[np.ndarray, "h w"]
    box_xyxy: tuple[float, float, float, float]

    def clipped(self, shape: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Windows (in the image, in the patch) of the part inside an image of this (height, width)."""
        rows, columns = (
            (max(0, start), min(size, start + extent))
            for start, extent, size in zip((self.y, self.x), self.coverage.shape, shape, strict=True)
        )
        image = slice(rows[0], max(rows)), slice(columns[0], max(columns))
        return image, (
            slice(rows[0] - self.y, max(rows) - self.y),
            slice(columns[0] - self.x, max(columns) - self.x),
        )


def outline_px(sprite: Sprite, pose: Pose, scale: float) -> Float[np.ndarray, "N 2"]:
    """The sprite's extreme points in image pixels (x, y)."""
    cosine, sine = math.cos(pose.heading), math.sin(pose.heading)
    turn = np.array([[cosine, sine], [-sine, cosine]])
    return np.asarray(((sprite.outline * pose.stretch) @ turn + (pose.x, pose.y)) * scale)


def supersampling(long_px: float) -> int:
    """Subpixels per pixel and axis: a power of two (boxes are exact binary fractions) that leaves some 64 across."""
    return 16 if long_px < 5 else 8 if long_px < 12 else 4 if long_px < 48 else 2


def render(sprite: Sprite, pose: Pose, scale: float, light: Light, paint: tuple[float, float, float]) -> Patch | None:
    """A labeled object; a binary mask at supersampling decides coverage and box. None where that mask is empty."""
    points = outline_px(sprite, pose, scale)
    x0, y0 = (math.floor(value) - 1 for value in points.min(0))
    x1, y1 = (math.ceil(value) + 1 for value in points.max(0))
    factor = supersampling(float(np.ptp(points, axis=0).max()))
    level = sprite.level_for(scale * factor * max(pose.stretch) * DETAIL)
    image, height = _transformed(level, pose, scale, light, paint, (x0, y0, x1, y1), factor)
    solid = image[..., 3] >= 128
    rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    if not len(rows):
        return None
    left, right = (x0 + float(column) / factor for column in (columns[0], columns[-1] + 1))
    top, bottom = (y0 + float(row) / factor for row in (rows[0], rows[-1] + 1))
    coverage = _pooled(solid * np.uint8(255), factor) / np.float32(255)
    premultiplied = _pooled(image[..., :3] * solid[..., None], factor)
    return Patch(x0, y0, coverage, premultiplied, height * coverage, (left, top, right, bottom))


def stamp_scenery(
    surface: Surface,
    sprite: Sprite,
    pose: Pose,
    paint: tuple[float, float, float],
    *,
    tall: float = 1.0,
    blocks: bool = True,
    where: Bool[np.ndarray, "H W"] | None = None,
) -> None:
    """Draw something unlabeled straight onto the surface, or onto a part of it. tall: factor on its height."""
    points = outline_px(sprite, pose, surface.scale)
    height, width = surface.shape
    x0, y0 = (max(0, math.floor(value) - 1) for value in points.min(0))
    x1, y1 = (min(side, math.ceil(value) + 1) for side, value in zip((width, height), points.max(0), strict=True))
    if x0 >= x1 or y0 >= y1:
        return
    level = sprite.level_for(surface.scale * max(pose.stretch) * 0.8)
    image, heights = _transformed(level, pose, surface.scale, surface.light, paint, (x0, y0, x1, y1), 1)
    window = slice(y0, y1), slice(x0, x1)
    alpha = image[..., 3].astype(np.float32) * np.float32(1 / 255)
    if where is not None:
        alpha *= where[window]
    surface.blend(window, image[..., :3], alpha)
    np.maximum(surface.height[window], heights * tall * (alpha > 0.4), out=surface.height[window])
    if blocks:
        surface.blocked[window] |= alpha > 0.25


def _transformed(
    level: SpriteLevel,
    pose: Pose,
    scale: float,
    light: Light,
    paint: tuple[float, float, float],
    window: tuple[int, int, int, int],
    factor: int,
) -> tuple[np.ndarray, np.ndarray]:
    """RGBA bytes of the window at `factor` subpixels per pixel, and heights at one."""
    x0, y0, x1, y1 = window
    size = (x1 - x0, y1 - y0)
    lit = level.color + level.paint[..., None] * (np.array(paint, np.float32) - level.color)
    lit *= light.shade(level.slope, pose.heading)[..., None]
    rgba = np.concatenate([lit, level.alpha[..., None] * 255], -1).clip(0, 255).astype(np.uint8)
    fine = _affine(level, pose, scale, (x0, y0), factor)
    coarse = _affine(level, pose, scale, (x0, y0), 1)
    how = (Image.Transform.AFFINE, Image.Resampling.BILINEAR)
    image = Image.fromarray(rgba).transform((size[0] * factor, size[1] * factor), how[0], fine, how[1])
    heights = Image.fromarray(level.height).transform(size, how[0], coarse, how[1])
    return np.asarray(image), np.asarray(heights)


def _affine(level: SpriteLevel, pose: Pose, scale: float, corner: tuple[int, int], factor: int) -> tuple[float, ...]:
    """Coefficients from output subpixels to sprite pixels, as PIL wants them."""
    cosine, sine = math.cos(pose.heading), math.sin(pose.heading)
    x, y = corner[0] / scale - pose.x, corner[1] / scale - pose.y
    step = 1 / (scale * factor)
    forward, right = (level.resolution / stretch for stretch in pose.stretch)
    rows, columns = level.alpha.shape
    return (
        forward * cosine * step,
        forward * sine * step,
        forward * (cosine * x + sine * y) + columns / 2,
        -right * sine * step,
        right * cosine * step,
        right * (cosine * y - sine * x) + rows / 2,
    )


def _pooled(values: UInt8[np.ndarray, " ..."], factor: int) -> Float[np.ndarray, " ..."]:
    """Means over factor x factor blocks; 16 x 16 of them still leave a trace of one subpixel in 8 bits."""
    return np.asarray(Image.fromarray(values).reduce(factor), np.float32)
