"""Motor boats, sailing boats and small work boats from above, and the wake behind a moving one."""

from __future__ import annotations

from functools import cache

import numpy as np

from smidgen.data.synthetic.ground import crop, noise_tile
from smidgen.data.synthetic.sprite import Drawing, Sprite

DECK = (214, 206, 190)
TEAK = (160, 124, 86)
GLASS = (44, 52, 62)
ENGINE = (40, 42, 46)

HULLS: tuple[tuple[int, int, int], ...] = (
    *((238, 238, 236),) * 6, (206, 210, 214), (40, 58, 96), (150, 40, 38), (60, 62, 66), (58, 110, 130),
    (196, 176, 130),
)  # fmt: skip


def _hull(length: float, width: float, transom: float = 0.82) -> np.ndarray:
    """A pointed bow and a square stern of `transom` times the beam."""
    along = np.linspace(0, 1, 36)
    half = (
        width
        / 2
        * np.minimum(transom + (1 - transom) * np.sin(np.clip(along / 0.8, 0, 1) * np.pi), 1)
        * (1 - np.clip((along - 0.45) / 0.55, 0, 1) ** 2.2)
    )
    x = (along - 0.5) * length
    return np.concatenate([np.stack([x, half], -1), np.stack([x, -half], -1)[::-1]])


def _motor_boat(length: float, width: float, long_px: int) -> Sprite:
    drawing = Drawing(length + 0.7, width + 0.3, long_px)
    half = length / 2
    drawing.box(-half - 0.3, -half + 0.1, -0.22, 0.22, ENGINE, height=0.9, solid=True)
    drawing.polygon(_hull(length, width), paint=1.0, height=0.8, solid=True)
    drawing.polygon(_hull(length * 0.9, width * 0.78) - (0.02 * length, 0), DECK, paint=0.25, height=0.95)
    drawing.box(-0.44 * length, 0.08 * length, -0.31 * width, 0.31 * width, TEAK, height=0.5)
    drawing.box(-0.42 * length, -0.33 * length, -0.28 * width, 0.28 * width, (232, 228, 220), height=0.8)
    drawing.box(-0.14 * length, -0.06 * length, -0.24 * width, -0.05 * width, (232, 228, 220), height=0.9)
    drawing.box(-0.14 * length, -0.06 * length, 0.05 * width, 0.24 * width, (232, 228, 220), height=0.9)
    screen = [(0.08, -0.33), (0.16, -0.2), (0.18, 0), (0.16, 0.2), (0.08, 0.33), (0.04, 0.3), (0.11, 0), (0.04, -0.3)]
    drawing.polygon([(x * length, y * width) for x, y in screen], GLASS, height=1.4)
    return drawing.sprite(0.08)


def _cruiser(length: float, width: float, long_px: int) -> Sprite:
    drawing = Drawing(length + 0.4, width + 0.3, long_px)
    drawing.polygon(_hull(length, width), paint=1.0, height=1.1, solid=True)
    drawing.polygon(_hull(length * 0.94, width * 0.86), (232, 230, 224), paint=0.3, height=1.3)
    drawing.box(-0.47 * length, -0.22 * length, -0.36 * width, 0.36 * width, TEAK, height=0.8)
    drawing.polygon(_hull(length * 0.56, width * 0.74) - (0.01 * length, 0), (240, 240, 238), paint=0.1, height=2.3)
    drawing.polygon(
        [
            (0.15 * length, -0.28 * width),
            (0.24 * length, 0),
            (0.15 * length, 0.28 * width),
            (0.08 * length, 0.26 * width),
            (0.16 * length, 0),
            (0.08 * length, -0.26 * width),
        ],
        GLASS,
        height=2.0,
    )
    drawing.box(-0.16 * length, 0.02 * length, -0.2 * width, 0.2 * width, (120, 130, 138), height=2.4)
    return drawing.sprite(0.1)


def _sailing_boat(length: float, width: float, cover: tuple[int, int, int], long_px: int) -> Sprite:
    drawing = Drawing(length + 0.3, width + 0.3, long_px)
    drawing.polygon(_hull(length, width, 0.6), paint=1.0, height=0.9, solid=True)
    drawing.polygon(_hull(length * 0.93, width * 0.84, 0.6), (230, 224, 210), paint=0.2, height=1.0)
    drawing.box(-0.40 * length, -0.12 * length, -0.22 * width, 0.22 * width, TEAK, height=0.6)
    drawing.polygon(
        [
            (-0.1 * length, -0.26 * width),
            (0.24 * length, -0.12 * width),
            (0.24 * length, 0.12 * width),
            (-0.1 * length, 0.26 * width),
        ],
        (240, 240, 236),
        height=1.5,
    )
    drawing.box(-0.36 * length, 0.1 * length, -0.16, 0.16, cover, height=2.4)
    drawing.ellipse(0.1 * length, 0, 0.25, 0.25, (210, 212, 214), height=5.0)
    return drawing.sprite(0.07)


def _work_boat(long_px: int) -> Sprite:
    drawing = Drawing(9.4, 3.5, long_px)
    drawing.polygon(_hull(9.0, 3.2, 0.9), paint=1.0, height=1.0, solid=True)
    drawing.polygon(_hull(8.4, 2.7, 0.9), (150, 138, 122), height=0.7)
    drawing.box(0.2, 2.4, -0.95, 0.95, (228, 228, 222), height=3.0)
    drawing.box(2.0, 2.35, -0.85, 0.85, GLASS, height=2.8)
    drawing.ellipse(-2.4, 0.3, 1.7, 1.3, (70, 104, 96), height=1.1)
    drawing.box(-0.6, -0.2, -1.0, 1.0, (96, 100, 104), height=2.0)
    return drawing.sprite(0.08)


def _dinghy(long_px: int) -> Sprite:
    drawing = Drawing(4.2, 2.1, long_px)
    drawing.polygon(_hull(3.9, 1.8, 0.95), (128, 132, 136), paint=0.35, height=0.5, solid=True)
    drawing.polygon(_hull(3.2, 1.0, 0.95) - (0.1, 0), (88, 84, 78), height=0.2)
    drawing.box(-1.0, -0.6, -0.5, 0.5, (170, 150, 120), height=0.4)
    drawing.box(-2.05, -1.7, -0.2, 0.2, ENGINE, height=0.8, solid=True)
    return drawing.sprite(0.07)


@cache
def boat_sprites() -> tuple[Sprite, ...]:
    """The models, drawn at the first call."""
    return (
        _motor_boat(6.2, 2.3, 144),
        _motor_boat(7.4, 2.6, 160),
        _cruiser(9.5, 3.2, 192),
        _cruiser(8.0, 2.9, 176),
        _sailing_boat(9.0, 2.9, (44, 70, 118), 192),
        _sailing_boat(7.6, 2.5, (214, 208, 192), 176),
        _work_boat(192),
        _dinghy(112),
    )


@cache
def wake_sprite() -> Sprite:
    """Foam behind a boat heading forward, one unit long and 0.4 wide; the bow lies at the front end."""
    rows, columns = 96, 240
    x = np.linspace(0, 1, columns, dtype=np.float32)[None, ::-1]  # 0 at the bow, 1 far behind
    y = np.linspace(-1, 1, rows, dtype=np.float32)[:, None]
    noise = crop(noise_tile(0.9, 5), np.random.default_rng(5), rows, columns)
    arms = np.exp(-(((np.abs(y) - 0.08 - 0.82 * x) / (0.035 + 0.07 * x)) ** 2)) * (1 - x) ** 1.3
    trail = np.exp(-((y / (0.10 + 0.10 * x)) ** 2)) * (1 - x) ** 0.8 * np.clip(x * 6 - 0.6, 0, 1)
    alpha = np.clip((0.62 * arms + 0.75 * trail) * (0.85 + 0.38 * noise), 0, 0.9) * np.clip((1 - np.abs(y)) * 8, 0, 1)
    white = np.full((rows, columns, 3), 222, np.float32)
    flat = np.zeros((rows, columns), np.float32)
    return Sprite.of(white, flat, np.maximum(alpha, 0), flat, resolution=columns)
