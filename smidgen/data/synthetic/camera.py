"""From light to pixels: exposure, haze, vignetting, blur and noise, in the order of a real camera."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from scipy.ndimage import gaussian_filter1d

from smidgen.data.synthetic.config import SceneConfig
from smidgen.data.synthetic.ground import crop, noise_tile


def photograph(
    scene: Float[np.ndarray, "H W 3"], config: SceneConfig, rng: np.random.Generator
) -> UInt8[np.ndarray, "H W 3"]:
    """8-bit image of a lit scene (0..255); the ranges of the config decide what the camera adds."""
    height, width = scene.shape[:2]
    haze, dark, blur, noise = (
        float(rng.uniform(*span)) for span in (config.haze, config.vignetting, config.blur_px, config.noise)
    )
    exposure = float(rng.uniform(0.92, 1.2)) * rng.uniform(0.97, 1.03, 3).astype(np.float32)
    airlight = np.array([196, 204, 214], np.float32) * float(rng.uniform(0.85, 1.05))
    image = scene * ((1 - haze) * exposure) + airlight * haze
    image *= _falloff(height, width, dark)[..., None]
    if blur > 0:
        for axis in (0, 1):
            image = gaussian_filter1d(image, blur, axis=axis, truncate=3.0)
    if noise > 0:
        _add_noise(image, noise, rng)
    return np.asarray(np.clip(image + 0.5, 0, 255).astype(np.uint8))


def _falloff(height: int, width: int, dark: float) -> Float[np.ndarray, "H W"]:
    """Light lost toward the corners, quadratic in the distance from the center."""
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    return 1 - np.float32(dark / 2) * (x**2 + y**2)


def _add_noise(image: Float[np.ndarray, "H W 3"], noise: float, rng: np.random.Generator) -> None:
    """Mostly gray noise, a little per channel; windows of fixed tiles are as good as fresh numbers, and faster."""
    height, width = image.shape[:2]
    common = crop(noise_tile(0.0, 20), rng, height, width)
    for channel in range(3):
        own = crop(noise_tile(0.0, 21 + channel), rng, height, width)
        image[..., channel] += np.float32(0.8 * noise) * common
        image[..., channel] += np.float32(0.6 * noise) * own
