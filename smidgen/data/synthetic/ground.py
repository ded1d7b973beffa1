"""Ground textures: fractal noise between two colors of a material, rows of crops, and waves on water."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float
from scipy import fft

TILE = 1024  # pixels; tiles wrap around


@dataclass(frozen=True, slots=True)
class Material:
    """Two colors that blend in patches, and the strength of grain, in 8-bit levels."""

    light: tuple[int, int, int]
    dark: tuple[int, int, int]
    grain: float


MATERIALS: dict[str, Material] = {
    "grass": Material((118, 124, 76), (74, 90, 50), 13.0),
    "lawn": Material((104, 124, 68), (84, 106, 56), 8.0),
    "scrub": Material((140, 128, 88), (80, 88, 54), 16.0),
    "soil": Material((150, 126, 98), (114, 92, 70), 10.0),
    "asphalt": Material((110, 110, 111), (96, 97, 99), 5.0),
    "old_asphalt": Material((140, 137, 133), (124, 122, 119), 6.0),
    "concrete": Material((170, 165, 157), (156, 152, 144), 5.0),
    "pavers": Material((166, 154, 143), (152, 142, 132), 6.0),
    "sand": Material((214, 199, 166), (188, 170, 136), 7.0),
    "wet_sand": Material((164, 146, 116), (148, 130, 102), 5.0),
    "planks": Material((150, 134, 114), (118, 104, 88), 9.0),
    "maize": Material((104, 124, 62), (76, 98, 46), 12.0),
    "wheat": Material((200, 178, 118), (172, 148, 92), 9.0),
    "ploughed": Material((132, 106, 82), (100, 78, 60), 10.0),
    "stubble": Material((188, 172, 130), (156, 138, 98), 10.0),
    "rapeseed": Material((186, 178, 88), (148, 148, 76), 11.0),
}


@cache
def noise_tile(roughness: float, seed: int = 0) -> Float[np.ndarray, "T T"]:
    """Fractal noise of unit variance whose amplitude falls as frequency**-roughness; it wraps around."""
    white = np.random.default_rng(seed).standard_normal((TILE, TILE), dtype=np.float32)
    spectrum = fft.rfft2(white)
    frequency = np.hypot(fft.fftfreq(TILE)[:, None], fft.rfftfreq(TILE)[None, :])
    # Nothing longer than a quarter of the tile: whole images would differ in brightness only.
    weight = np.where(frequency >= 4 / TILE, np.maximum(frequency, 1 / TILE) ** -roughness, 0)
    return _unit_variance(fft.irfft2(spectrum * weight, s=(TILE, TILE)))


@cache
def wave_tile(wavelength_px: float, seed: int = 0) -> Float[np.ndarray, "T T"]:
    """Waves of unit variance running mostly along x: a band of wavelengths with a cosine-power spread of directions."""
    white = np.random.default_rng(seed).standard_normal((TILE, TILE), dtype=np.float32)
    row, column = fft.fftfreq(TILE)[:, None], fft.rfftfreq(TILE)[None, :]
    frequency = np.hypot(row, column)
    direction = np.divide(column, frequency, out=np.zeros_like(frequency), where=frequency > 0)
    octaves = np.log2(np.maximum(frequency, 1e-6) * wavelength_px)
    weight = np.exp(-0.5 * (octaves / 0.55) ** 2) * direction**4 / np.maximum(frequency, 1e-6)
    return _unit_variance(fft.irfft2(fft.rfft2(white) * weight, s=(TILE, TILE)))


def _unit_variance(field: np.ndarray) -> np.ndarray:
    return np.asarray((field - field.mean()) / field.std(), np.float32)


def crop(tile: Float[np.ndarray, "T T"], rng: np.random.Generator, height: int, width: int) -> Float[np.ndarray, "H W"]:
    """A random, randomly mirrored window of a tile, of any size."""
    row, column = (int(offset) for offset in rng.integers(0, TILE, 2))
    row, column = (
        offset % (TILE - size + 1) if size <= TILE else offset for offset, size in ((row, height), (column, width))
    )
    if max(height, width) <= TILE:
        window = tile[row : row + height, column : column + width]
    else:
        window = tile[np.ix_((row + np.arange(height)) % TILE, (column + np.arange(width)) % TILE)]
    mirror_rows, mirror_columns = rng.random(2) < 0.5
    window = window[::-1] if mirror_rows else window
    return window[:, ::-1] if mirror_columns else window


def material_texture(name: str, rng: np.random.Generator, height: int, width: int) -> Float[np.ndarray, "H W 3"]:
    """Albedo of a material, 0..255, with a small random change of brightness and hue."""
    material = MATERIALS[name]
    blend = np.clip(0.5 + 0.28 * crop(noise_tile(1.6), rng, height, width), -0.1, 1.1)
    grain = material.grain * crop(noise_tile(0.55, 1), rng, height, width)
    hue = (rng.uniform(0.88, 1.1) * rng.uniform(0.97, 1.03, 3)).astype(np.float32)
    light, dark = np.array(material.light, np.float32) * hue, np.array(material.dark, np.float32) * hue
    texture = np.empty((height, width, 3), np.float32)
    for channel in range(3):
        np.multiply(blend, light[channel] - dark[channel], out=texture[..., channel])
        texture[..., channel] += grain
        texture[..., channel] += dark[channel]
    return texture


def stripes(
    shape: tuple[int, int], period_px: float, angle: float, rng: np.random.Generator, wobble_px: float = 0.0
) -> Float[np.ndarray, "H W"]:
    """Parallel rows, -1..1, across direction `angle`; they fade out where they get finer than the pixels show."""
    height, width = shape
    visible = min(1.0, max(0.0, (period_px - 2.2) / 2.0))
    if visible == 0:
        return np.zeros((height, width), np.float32)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    across = x[None, :] * np.float32(math.cos(angle)) + y[:, None] * np.float32(math.sin(angle))
    if wobble_px:
        across = across + np.float32(wobble_px) * crop(noise_tile(1.6, 2), rng, height, width)
    return np.float32(visible) * np.sin(across * np.float32(2 * math.pi / period_px) + np.float32(rng.uniform(0, 6.28)))


def water_texture(rng: np.random.Generator, height: int, width: int, scale: float) -> Float[np.ndarray, "H W 3"]:
    """Albedo of water: depth in patches, chop of about 1.5 m, long swell and bright glints. scale: pixels per meter."""
    chop_px = min(24.0, max(3.0, 2.0 ** round(math.log2(1.5 * scale))))
    waves = crop(wave_tile(chop_px), rng, height, width) + 0.5 * crop(wave_tile(4 * chop_px, 1), rng, height, width)
    waves = waves + 0.35 * crop(noise_tile(0.4, 3), rng, height, width)
    depth = crop(noise_tile(1.9, 4), rng, height, width)
    base = np.array([(44, 74, 88), (58, 88, 88), (40, 66, 92), (78, 98, 92)][rng.integers(4)], np.float32)
    strength = rng.uniform(2.5, 7.5)
    glint = np.maximum(waves - 1.9, 0) * rng.uniform(2, 18)
    texture = np.empty((height, width, 3), np.float32)
    for channel, depth_strength in enumerate((2.5, 4.5, 4.0)):
        texture[..., channel] = base[channel] + strength * waves + depth_strength * depth + glint
    return texture
