"""The canvas of a scene: albedo, heights, and where things stand, in pixels of the image with meters beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw

from smidgen.data.synthetic.ground import material_texture
from smidgen.data.synthetic.light import Light

Polygon = Sequence[tuple[float, float]] | Float[np.ndarray, "N 2"]


@dataclass(slots=True, eq=False)
class Surface:
    """scale: pixels per meter. blocked: nothing labeled may stand here. paved, water: what the ground is."""

    albedo: Float[np.ndarray, "H W 3"]
    height: Float[np.ndarray, "H W"]
    blocked: Bool[np.ndarray, "H W"]
    paved: Bool[np.ndarray, "H W"]
    water: Bool[np.ndarray, "H W"]
    scale: float
    light: Light
    spots: dict[str, list[Float[np.ndarray, "N 3"]]] = field(default_factory=dict)

    @staticmethod
    def blank(size_wh: tuple[int, int], scale: float, light: Light) -> Surface:
        """Flat, empty ground."""
        shape = (size_wh[1], size_wh[0])
        blocked, paved, water = (np.zeros(shape, bool) for _ in range(3))
        albedo, height = np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32)
        return Surface(albedo, height, blocked, paved, water, scale, light)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height.shape[0], self.height.shape[1]

    @property
    def size_m(self) -> tuple[float, float]:
        """(width, height) of the ground that the image shows, in meters."""
        return self.shape[1] / self.scale, self.shape[0] / self.scale

    @property
    def diagonal_m(self) -> float:
        """Length of the image's diagonal on the ground, in meters."""
        return math.hypot(*self.size_m)

    def add_spots(self, kind: str, poses: Float[np.ndarray, "N 3"]) -> None:
        """Places (x, y in meters, heading in radians) where objects of a kind stand; those far outside are left out."""
        width, height = self.size_m
        inside = (np.abs(poses[:, 0] - width / 2) < width * 0.55) & (np.abs(poses[:, 1] - height / 2) < height * 0.55)
        self.spots.setdefault(kind, []).append(poses[inside])

    def mask(self, polygons: Sequence[Polygon], fineness: int = 2) -> Float[np.ndarray, "H W"]:
        """Share of each pixel inside the union of polygons in meters; fineness: subpixels per pixel and axis."""
        whole = np.zeros(self.shape, np.float32)
        window, patch = self.window_mask(polygons, fineness)
        whole[window] = patch
        return whole

    def window_mask(
        self, polygons: Sequence[Polygon], fineness: int = 2
    ) -> tuple[tuple[slice, slice], Float[np.ndarray, "h w"]]:
        """`mask` inside the smallest window that holds the polygons (empty where the image shows none of them)."""
        corners = self._in_view([np.asarray(polygon, float) * self.scale for polygon in polygons])
        everything = np.concatenate([*corners, np.empty((0, 2))])
        if not len(everything):
            return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), np.float32)
        low = np.clip(np.floor(everything.min(0)) - 1, 0, self.shape[::-1]).astype(int)
        high = np.maximum(np.clip(np.ceil(everything.max(0)) + 1, 0, self.shape[::-1]).astype(int), low)
        window = slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))
        return window, _filled([corner - low for corner in corners], (high - low).tolist(), fineness)

    def _in_view(self, polygons: list[np.ndarray]) -> list[np.ndarray]:
        """The polygons (in pixels) whose bounding boxes touch the image."""
        if not polygons:
            return []
        starts = np.cumsum([0] + [len(polygon) for polygon in polygons[:-1]])
        points = np.concatenate(polygons)
        low, high = np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)
        seen = np.all((high > 0) & (low < self.shape[::-1]), axis=1)
        return [polygon for polygon, visible in zip(polygons, seen, strict=True) if visible]

    def fill(self, polygon: Polygon, color: tuple[float, float, float], blocks: bool = False) -> None:
        """Paint one polygon, given in meters, opaquely."""
        window, patch = self.window_mask([polygon])
        self.blend(window, np.array(color, np.float32), patch)
        if blocks:
            self.blocked[window] |= patch > 0.3

    def lay(self, material: str, rng: np.random.Generator) -> None:
        """Lay a material everywhere."""
        self.albedo[:] = material_texture(material, rng, *self.shape)

    def cover(self, mask: Float[np.ndarray, "H W"], material: str, rng: np.random.Generator) -> None:
        """Lay a material where the mask says."""
        window = bounding_window(mask > 0)
        if window is None:
            return
        patch = mask[window]
        self.blend(window, material_texture(material, rng, *patch.shape), patch)

    def blend(self, window: tuple[slice, slice], color: np.ndarray, share: Float[np.ndarray, "h w"]) -> None:
        """Mix a color (h x w x 3, or one for all) into a window of the albedo."""
        albedo = self.albedo[window]
        albedo += (color - albedo) * share[..., None]

    def mark(self, mask: Float[np.ndarray, "H W"], color: tuple[float, float, float], strength: float) -> None:
        """Paint a color thinly, as road markings are."""
        window = bounding_window(mask > 0)
        if window is not None:
            self.blend(window, np.array(color, np.float32), mask[window] * np.float32(strength))


def _filled(polygons: list[np.ndarray], size_wh: list[int], fineness: int) -> Float[np.ndarray, "h w"]:
    if min(size_wh) == 0:
        return np.zeros((size_wh[1], size_wh[0]), np.float32)
    image = Image.new("L", (size_wh[0] * fineness, size_wh[1] * fineness), 0)
    draw = ImageDraw.Draw(image)
    for polygon in polygons:
        draw.polygon((polygon * fineness).ravel().tolist(), fill=255)
    return np.asarray(image.reduce(fineness), np.float32) / 255


def bounding_window(mask: Bool[np.ndarray, "H W"]) -> tuple[slice, slice] | None:
    """The smallest window that holds every True, or None where there is none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
