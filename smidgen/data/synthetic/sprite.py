"""Things seen from above as layers (color, paint, outline, height) at several resolutions, drawn once and reused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

OVERSAMPLING = 3
GRANULE = 16  # sprite sides are multiples of this, so that four halvings are exact
LEVELS = 5
MAX_SLOPE = 1.2

Points = Sequence[tuple[float, float]] | Float[np.ndarray, "N 2"]


@dataclass(frozen=True, slots=True, eq=False)
class SpriteLevel:
    """One resolution of a sprite, in pixels per meter; rows run to the object's right, columns forward.

    color: 0..255 where paint is 0. paint: share of the color that is the paint chosen for one object. alpha: 0..1.
    height: meters. slope: gradient of the height (forward, right).
    """

    resolution: float
    color: Float[np.ndarray, "h w 3"]
    paint: Float[np.ndarray, "h w"]
    alpha: Float[np.ndarray, "h w"]
    height: Float[np.ndarray, "h w"]
    slope: Float[np.ndarray, "h w 2"]


@dataclass(frozen=True, slots=True, eq=False)
class Sprite:
    """levels: finest first. outline: extreme points in meters, (forward, right) from the center."""

    levels: tuple[SpriteLevel, ...]
    outline: Float[np.ndarray, "N 2"]

    def level_for(self, resolution: float) -> SpriteLevel:
        """The coarsest level that is at least as fine as wanted."""
        fine = [level for level in self.levels if level.resolution >= resolution]
        return fine[-1] if fine else self.levels[0]

    @staticmethod
    def of(
        color: Float[np.ndarray, "h w 3"],
        paint: Float[np.ndarray, "h w"],
        alpha: Float[np.ndarray, "h w"],
        height: Float[np.ndarray, "h w"],
        resolution: float,
    ) -> Sprite:
        """A sprite with its coarser levels; sides must be multiples of GRANULE."""
        right, forward = np.gradient(height, 1 / resolution)
        slope = np.clip(np.stack([forward, right], -1), -MAX_SLOPE, MAX_SLOPE)
        layers = [np.asarray(layer, np.float32) for layer in (color, paint, alpha, height, slope)]
        outline = _outline(layers[2], resolution)
        levels = [SpriteLevel(resolution, *layers)]
        for index in range(1, LEVELS):
            layers = [_halved(layer) for layer in layers]
            levels.append(SpriteLevel(resolution / 2**index, *layers))
        return Sprite(tuple(levels), outline)


def _halved(layer: np.ndarray) -> np.ndarray:
    rows, columns = layer.shape[0] // 2, layer.shape[1] // 2
    return np.asarray(layer.reshape(rows, 2, columns, 2, *layer.shape[2:]).mean(axis=(1, 3)))


def _outline(alpha: np.ndarray, resolution: float) -> np.ndarray:
    """The outermost points of the mask in 64 directions, in meters."""
    rows, columns = np.nonzero(alpha >= 0.5)
    center = np.array([alpha.shape[1], alpha.shape[0]]) / 2
    corners = np.array([(0, 0), (1, 0), (0, 1), (1, 1)])
    points = (np.stack([columns, rows], -1)[:, None] + corners).reshape(-1, 2) - center
    angles = np.arange(64) * (2 * np.pi / 64)
    extreme = np.argmax(points @ np.stack([np.cos(angles), np.sin(angles)]), axis=0)
    return np.asarray(points[extreme] / resolution, np.float64)


class Drawing:
    """Polygons in meters (forward, right) from the center, drawn one over another."""

    def __init__(
        self, length_m: float, width_m: float, long_px: int = 128, base: tuple[int, int, int] = (150, 150, 150)
    ) -> None:
        self.resolution = long_px / length_m
        columns, rows = (_granules(side * self.resolution) for side in (length_m, width_m))
        self._center = np.array([columns, rows]) * OVERSAMPLING / 2
        size = (columns * OVERSAMPLING, rows * OVERSAMPLING)
        self._color = Image.new("RGB", size, base)
        self._paint, self._alpha, self._height = (Image.new("L", size, fill) for fill in (255, 0, 0))

    def polygon(
        self,
        points: Points,
        color: tuple[int, int, int] | None = None,
        *,
        paint: float = 0.0,
        height: float | None = None,
        solid: bool = False,
    ) -> None:
        """Fill with a color, of which `paint` is the share of paint; `solid` adds to the outline. height: 0..5 m."""
        corners = [tuple(point) for point in np.asarray(points) * self.resolution * OVERSAMPLING + self._center]
        if color is not None:
            ImageDraw.Draw(self._color).polygon(corners, fill=color)
        if color is not None or paint:
            ImageDraw.Draw(self._paint).polygon(corners, fill=round(255 * paint))
        if height is not None:
            ImageDraw.Draw(self._height).polygon(corners, fill=round(height * 50))
        if solid:
            ImageDraw.Draw(self._alpha).polygon(corners, fill=255)

    def ellipse(
        self, x: float, y: float, length: float, width: float, color: tuple[int, int, int] | None = None, **look: float
    ) -> None:
        """An ellipse around (x, y) with these diameters, in meters; see `polygon`."""
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        points = list(zip(x + np.cos(angles) * length / 2, y + np.sin(angles) * width / 2, strict=True))
        solid = bool(look.pop("solid", False))
        self.polygon(points, color, solid=solid, paint=look.get("paint", 0.0), height=look.get("height"))

    def box(
        self, x0: float, x1: float, y0: float, y1: float, color: tuple[int, int, int] | None = None, **look: float
    ) -> None:
        """A rectangle from (x0, y0) to (x1, y1) in meters; see `polygon`."""
        solid = bool(look.pop("solid", False))
        corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
        self.polygon(corners, color, solid=solid, paint=look.get("paint", 0.0), height=look.get("height"))

    def sprite(self, roundness_m: float = 0.08) -> Sprite:
        """The finished sprite; smoothing heights over `roundness_m` meters rounds edges and slants windscreens."""
        color, paint, alpha, height = (
            np.asarray(image.reduce(OVERSAMPLING), np.float32)
            for image in (self._color, self._paint, self._alpha, self._height)
        )
        smooth = gaussian_filter(height / 50, roundness_m * self.resolution)
        return Sprite.of(color, paint / 255, alpha / 255, smooth, self.resolution)


def _granules(pixels: float) -> int:
    return max(GRANULE, int(np.ceil(pixels / GRANULE)) * GRANULE)
