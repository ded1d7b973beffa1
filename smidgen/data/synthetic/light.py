"""One sun for the whole scene: shading of slopes and shadows cast over a height map."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

SHADOW_DEPTH = 0.62  # share of the light that comes straight from a clear sky's sun


@dataclass(frozen=True, slots=True)
class Light:
    """The sun.

    toward_sun: unit vector in the image plane (x right, y down). tangent: of the sun's elevation. direct: 0..1.
    """

    toward_sun: tuple[float, float]
    tangent: float
    direct: float

    @staticmethod
    def of(azimuth_degrees: float, elevation_degrees: float, cloudiness: float) -> Light:
        """Light from angles as `SceneConfig` gives them."""
        azimuth, elevation = math.radians(azimuth_degrees), math.radians(min(elevation_degrees, 89.0))
        return Light((math.cos(azimuth), math.sin(azimuth)), math.tan(elevation), 1.0 - cloudiness)

    def shade(self, slope: Float[np.ndarray, "H W 2"], heading: float) -> Float[np.ndarray, "H W"]:
        """Brightness relative to flat ground (Lambert) of a height gradient in a frame turned by `heading`."""
        x, y = self.toward_sun
        forward = x * math.cos(heading) + y * math.sin(heading)
        right = y * math.cos(heading) - x * math.sin(heading)
        facing = slope[..., 0] * forward + slope[..., 1] * right
        steepness = np.sqrt(1 + slope[..., 0] ** 2 + slope[..., 1] ** 2)
        lambert = np.clip((1 - facing / self.tangent) / steepness, 0.25, 1.45)
        return np.asarray(
            1 + self.direct * SHADOW_DEPTH * (lambert - 1) + 0.25 * (1 - self.direct) * (1 / steepness - 1)
        )


def cast_shadows(height_m: Float[np.ndarray, "H W"], light: Light, scale: float) -> Float[np.ndarray, "H W"]:
    """Share of direct sun that is blocked at each pixel, 0..1.

    A point lies in shadow when, some way toward the sun, something rises above the ray. Each pass doubles the distance
    searched: the highest excess within 2n pixels is that within n, here and n pixels on. scale: pixels per meter.
    """
    drop = light.tangent / scale  # meters that the ray rises per pixel
    excess, tallest = height_m.copy(), float(height_m.max(initial=0.0))
    reach = 1
    while reach / 2 * drop < tallest and reach < max(height_m.shape):
        shift = (round(reach * light.toward_sun[1]), round(reach * light.toward_sun[0]))
        _raise_excess(excess, shift, math.hypot(*shift) * drop)
        reach *= 2
    softness = max(0.8 * drop, 0.05)
    return np.clip((excess - height_m) / softness, 0, 1)


def _raise_excess(excess: Float[np.ndarray, "H W"], shift: tuple[int, int], ray_m: float) -> None:
    rows, columns = (_overlap(size, offset) for size, offset in zip(excess.shape, shift, strict=True))
    here = excess[rows[0], columns[0]]
    np.maximum(here, excess[rows[1], columns[1]] - np.float32(ray_m), out=here)


def _overlap(size: int, offset: int) -> tuple[slice, slice]:
    """Slices (here, there) such that there = here + offset, inside 0..size."""
    start, stop = max(0, -offset), min(size, size - offset)
    return slice(start, max(start, stop)), slice(start + offset, max(start, stop) + offset)


def apply_light(
    albedo: Float[np.ndarray, "H W 3"], shadow: Float[np.ndarray, "H W"], light: Light
) -> Float[np.ndarray, "H W 3"]:
    """Darken shadows; what light is left there comes from the blue sky."""
    depth = SHADOW_DEPTH * light.direct
    tint = np.array([1.04, 1.0, 0.9], np.float32) * depth
    return albedo * (1 - shadow[..., None] * tint)
