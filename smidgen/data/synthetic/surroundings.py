"""What surrounds the objects and is not labeled: trees, roofs, and things that look like objects."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter

from smidgen.data.synthetic.ground import crop, noise_tile
from smidgen.data.synthetic.sprite import Drawing, Sprite

LEAVES: tuple[tuple[int, int, int], ...] = (
    (72, 96, 48),
    (60, 84, 44),
    (88, 104, 54),
    (100, 108, 58),
    (54, 76, 50),
    (116, 106, 54),
)
ROOFS: tuple[tuple[int, int, int], ...] = (
    (150, 92, 72),
    (128, 78, 64),
    (110, 108, 108),
    (142, 136, 128),
    (92, 90, 92),
    (168, 128, 98),
)
FLAT_ROOFS: tuple[tuple[int, int, int], ...] = (
    (164, 160, 154),
    (126, 124, 122),
    (186, 182, 174),
    (104, 102, 104),
    (150, 138, 122),
)


def _grid(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates -1..1 (forward, right) of a sprite's pixels."""
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    return (x + 0.5) * 2 / columns - 1, (y + 0.5) * 2 / rows - 1


def _tree(seed: int, ragged: float, size: int = 112) -> Sprite:
    """A crown one meter across and one meter tall, to be stretched."""
    rng = np.random.default_rng(seed)
    x, y = _grid(size, size)
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    leaves = crop(noise_tile(1.0, 6), rng, size, size)
    clumps = gaussian_filter(crop(noise_tile(0.3, 7), rng, size, size), 3.0)
    clumps = clumps / clumps.std()
    edge = 0.84 + sum(ragged / order * np.cos(order * angle + rng.uniform(0, 6.28)) for order in (2, 3, 5, 8, 13))
    inside = edge - radius + 0.05 * clumps + 0.02 * leaves
    dome = np.sqrt(np.clip(1 - (radius / 1.02) ** 2, 0, 1))
    height = np.where(inside > 0, 0.35 + 0.6 * dome + 0.06 * clumps, 0)
    shade = 1 + 0.10 * clumps + 0.12 * leaves - 0.22 * (1 - dome)
    color = np.array([78, 96, 50], np.float32) * shade[..., None]
    level = np.clip(0.55 * shade, 0, 0.9)
    return Sprite.of(color, level, np.clip(inside * 14, 0, 1), np.clip(height, 0, 1), size)


@cache
def tree_sprites() -> tuple[Sprite, ...]:
    """Crowns, one meter across."""
    return tuple(
        _tree(seed, ragged) for seed, ragged in ((1, 0.04), (2, 0.06), (3, 0.09), (4, 0.05), (5, 0.12), (6, 0.07))
    )


def _pitched_roof(hipped: bool, columns: int = 128, rows: int = 80) -> Sprite:
    """One by one meter; the ridge, 0.3 of the half width high, runs forward. Rows of tiles show as fine lines."""
    x, y = _grid(rows, columns)
    height = 0.3 * (1 - np.abs(y))
    if hipped:
        height = np.minimum(height, 0.3 * (1 - np.abs(x)) * 1.6)
    grain = crop(noise_tile(0.8, 8), np.random.default_rng(rows), rows, columns)
    lines = 1 + 0.035 * np.sin(y * 60) + 0.045 * grain
    color = np.full((rows, columns, 3), 120, np.float32) * lines[..., None]
    return Sprite.of(color, np.clip(0.92 * lines, 0, 1), np.ones_like(x), 0.7 + height, resolution=columns)


def _flat_roof(seed: int, columns: int = 176, rows: int = 112) -> Sprite:
    """One by one meter with a parapet, stains, vents and air conditioners that a detector may take for cars."""
    rng = np.random.default_rng(seed)
    x, y = _grid(rows, columns)
    stains = (
        1 + 0.06 * crop(noise_tile(1.5, 9), rng, rows, columns) + 0.03 * crop(noise_tile(0.5, 1), rng, rows, columns)
    )
    color = np.array([140, 138, 134], np.float32) * stains[..., None]
    paint = np.clip(0.85 * stains, 0, 1)
    rim = np.maximum(np.abs(x) * columns / rows, np.abs(y) + columns / rows - 1) > columns / rows - 0.045
    height = np.where(rim, 1.0, 0.94)
    color[rim], paint[rim] = (196, 192, 186), 0.2
    for _ in range(int(rng.integers(2, 9))):
        row, column = int(rng.integers(8, rows - 22)), int(rng.integers(8, columns - 28))
        window = slice(row, row + int(rng.integers(4, 12))), slice(column, column + int(rng.integers(5, 18)))
        color[window], paint[window] = rng.uniform(90, 210) + rng.uniform(-8, 8, 3), 0.0
        height[window] = rng.uniform(1.0, 1.12)
    return Sprite.of(color, paint, np.ones_like(x), gaussian_filter(height, 0.6), resolution=columns)


@cache
def roof_sprites() -> tuple[tuple[Sprite, ...], tuple[Sprite, ...]]:
    """(pitched, flat) roofs over a one by one meter plan, one meter tall."""
    return (_pitched_roof(False), _pitched_roof(True)), tuple(_flat_roof(seed) for seed in range(5))


def _rock(seed: int) -> Sprite:
    rng = np.random.default_rng(seed)
    drawing = Drawing(1.5, 1.2, 64, base=(150, 146, 140))
    angles = np.sort(rng.uniform(0, 6.28, 9))
    reach = rng.uniform(0.75, 1.0, 9)
    points = np.stack([0.7 * np.cos(angles) * reach, 0.52 * np.sin(angles) * reach], -1)
    drawing.polygon(points, (140, 134, 126), paint=0.5, height=0.35, solid=True)
    drawing.polygon(points * 0.6 + rng.uniform(-0.1, 0.1, 2), (166, 160, 150), paint=0.4, height=0.7)
    return drawing.sprite(0.07)


def _bin() -> Sprite:
    drawing = Drawing(1.5, 1.2, 64)
    drawing.box(-0.65, 0.65, -0.45, 0.45, paint=1.0, height=1.1, solid=True)
    drawing.box(-0.6, 0.6, -0.03, 0.03, (40, 42, 42), height=1.1)
    return drawing.sprite(0.03)


def _crate(length: float, ribs: int) -> Sprite:
    """A shipping container: the size of a truck without a cab."""
    drawing = Drawing(length + 0.1, 2.6, 128)
    drawing.box(-length / 2, length / 2, -1.22, 1.22, paint=0.9, height=2.5, solid=True)
    for x in np.linspace(-length / 2, length / 2, ribs)[1:-1]:
        drawing.box(x - 0.05, x + 0.05, -1.15, 1.15, (120, 116, 110), paint=0.6, height=2.45)
    return drawing.sprite(0.04)


def _air_conditioner() -> Sprite:
    drawing = Drawing(2.2, 1.5, 80)
    drawing.box(-1.0, 1.0, -0.65, 0.65, (190, 192, 194), height=1.2, solid=True)
    for x in (-0.5, 0.5):
        drawing.ellipse(x, 0, 0.85, 0.85, (70, 72, 76), height=1.1)
        drawing.ellipse(x, 0, 0.25, 0.25, (150, 152, 154), height=1.15)
    return drawing.sprite(0.03)


def _parasol() -> Sprite:
    drawing = Drawing(2.8, 2.8, 80)
    angles = np.linspace(0, 2 * np.pi, 9)
    for index, (start, stop) in enumerate(pairwise(angles)):
        wedge = [(0.0, 0.0), (1.35 * np.cos(start), 1.35 * np.sin(start)), (1.35 * np.cos(stop), 1.35 * np.sin(stop))]
        drawing.polygon(wedge, None if index % 2 else (232, 230, 224), paint=float(index % 2), height=2.2, solid=True)
    return drawing.sprite(0.25)


def _bale() -> Sprite:
    drawing = Drawing(1.7, 1.5, 64)
    drawing.box(-0.75, 0.75, -0.62, 0.62, (206, 182, 118), paint=0.1, height=1.2, solid=True)
    for y in (-0.3, 0.05, 0.34):
        drawing.box(-0.75, 0.75, y - 0.03, y + 0.03, (176, 152, 96), height=1.2)
    return drawing.sprite(0.2)


def _towel() -> Sprite:
    drawing = Drawing(1.9, 1.0, 64)
    drawing.box(-0.9, 0.9, -0.42, 0.42, paint=1.0, height=0.02, solid=True)
    drawing.box(-0.5, -0.3, -0.42, 0.42, (236, 234, 228), height=0.02)
    return drawing.sprite(0.02)


def _buoy() -> Sprite:
    drawing = Drawing(0.9, 0.9, 32)
    drawing.ellipse(0, 0, 0.8, 0.8, paint=1.0, height=0.7, solid=True)
    return drawing.sprite(0.15)


@cache
def distractor_sprites(name: str) -> tuple[Sprite, ...]:
    """Sprites of one kind of distractor, at their real sizes."""
    made = {
        "rock": lambda: tuple(_rock(seed) for seed in range(4)),
        "bin": lambda: (_bin(),),
        "crate": lambda: (_crate(6.1, 12), _crate(3.0, 7)),
        "air_conditioner": lambda: (_air_conditioner(),),
        "parasol": lambda: (_parasol(),),
        "bale": lambda: (_bale(),),
        "towel": lambda: (_towel(),),
        "buoy": lambda: (_buoy(),),
    }
    return made[name]()


DISTRACTOR_PAINTS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "rock": ((132, 126, 118), (160, 152, 140), (104, 100, 96)),
    "bin": ((52, 78, 58), (70, 72, 76), (52, 74, 112), (168, 150, 60)),
    "crate": ((150, 74, 50), (58, 92, 130), (96, 112, 82), (170, 168, 162), (180, 130, 60)),
    "air_conditioner": ((190, 192, 194),),
    "parasol": ((182, 60, 52), (60, 98, 150), (214, 176, 82), (90, 140, 120)),
    "bale": ((206, 182, 118),),
    "towel": ((176, 66, 62), (74, 112, 168), (210, 176, 96), (110, 160, 140), (226, 224, 218)),
    "buoy": ((214, 96, 44), (206, 52, 44), (226, 222, 210)),
}
