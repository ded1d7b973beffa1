"""Putting trees, buildings and distractors onto a surface without covering roads, water or each other."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float

from smidgen.data.synthetic.roads import rectangle, rectangles
from smidgen.data.synthetic.stamp import Pose, stamp_scenery
from smidgen.data.synthetic.surface import Surface
from smidgen.data.synthetic.surroundings import (
    DISTRACTOR_PAINTS,
    FLAT_ROOFS,
    LEAVES,
    ROOFS,
    distractor_sprites,
    roof_sprites,
    tree_sprites,
)

MOST_TREES = 40  # of one planting, drawn one by one
MOST_BUILDINGS = 50
FAR_TREE_PX = 9.0  # smaller crowns and houses are drawn together, as plain shapes
FAR_HOUSE_PX = 16.0
MOST_FAR_THINGS = 400
MOST_DISTRACTORS = 70
ALTITUDE_SIZES = 2.2  # the camera's altitude in image diagonals: how far walls of tall buildings come into view


def are_free(
    surface: Surface, quads: Float[np.ndarray, "N 4 2"], taken: Bool[np.ndarray, "H W"]
) -> Bool[np.ndarray, " N"]:
    """Which quadrilaterals (corners in meters) avoid what is taken, at 7 x 7 points each; all is free outside."""
    steps = np.linspace(0, 1, 7)[:, None]
    top = quads[:, None, 0] + (quads[:, 1] - quads[:, 0])[:, None] * steps
    bottom = quads[:, None, 3] + (quads[:, 2] - quads[:, 3])[:, None] * steps
    points = (top[:, None] + (bottom - top)[:, None] * steps[:, None]) * surface.scale
    columns, rows = np.moveaxis(np.floor(points).astype(int), -1, 0)
    height, width = surface.shape
    inside = (rows >= 0) & (columns >= 0) & (rows < height) & (columns < width)
    hit = taken[rows.clip(0, height - 1), columns.clip(0, width - 1)] & inside
    return np.asarray(~hit.any((1, 2)))


def in_view(surface: Surface, places: Float[np.ndarray, "N 2"], margin_m: float) -> Bool[np.ndarray, " N"]:
    """Which places (meters) lie in the image or at most this far outside."""
    return np.asarray(((places > -margin_m) & (places < np.add(surface.size_m, margin_m))).all(1))


def plant(
    surface: Surface, places: Float[np.ndarray, "N 2"], rng: np.random.Generator, crown_m: tuple[float, float]
) -> None:
    """Trees at places (meters) that are free of paving, water and buildings; crowns may touch."""
    places = places[in_view(surface, places, crown_m[1] / 2)]
    crowns = rng.uniform(*crown_m, len(places))
    squares = rectangles(np.column_stack([places, np.zeros(len(places))]), 1.0, 1.0) - places[:, None]
    squares = places[:, None] + squares * 0.7 * crowns[:, None, None]
    free = are_free(surface, squares, surface.paved | surface.water | surface.blocked)
    places, crowns = places[free], crowns[free]
    if crown_m[1] * surface.scale < FAR_TREE_PX:
        _plant_far(surface, places[:MOST_FAR_THINGS], crowns[:MOST_FAR_THINGS], rng)
        return
    tint = np.array(LEAVES[int(rng.integers(len(LEAVES)))])
    for (x, y), crown in zip(places[:MOST_TREES].tolist(), crowns.tolist(), strict=False):
        _plant_one(surface, x, y, crown, tint, rng)


def _plant_one(surface: Surface, x: float, y: float, crown: float, tint: np.ndarray, rng: np.random.Generator) -> None:
    leaves = 0.6 * tint + 0.4 * np.array(LEAVES[int(rng.integers(len(LEAVES)))]) * rng.uniform(0.85, 1.15)
    pose = Pose(x, y, float(rng.uniform(0, 6.28)), (crown, crown * float(rng.uniform(0.88, 1.1))))
    sprites = tree_sprites()
    tall = crown * float(rng.uniform(0.8, 1.3))
    stamp_scenery(surface, sprites[int(rng.integers(len(sprites)))], pose, tuple(leaves.tolist()), tall=tall)


def _plant_far(
    surface: Surface, places: Float[np.ndarray, "N 2"], crowns: Float[np.ndarray, " N"], rng: np.random.Generator
) -> None:
    """Crowns of a few pixels: dark outside, lit toward the sun."""
    angles = np.arange(8) * (math.pi / 4)
    circle = np.stack([np.cos(angles), np.sin(angles)], -1)
    whole = surface.mask([place + circle * crown / 2 for place, crown in zip(places, crowns, strict=True)], 3)
    toward = np.array(surface.light.toward_sun) * 0.12
    lit = [place + (toward + circle * 0.28) * crown for place, crown in zip(places, crowns, strict=True)]
    tint = np.array(LEAVES[int(rng.integers(len(LEAVES)))], float)
    surface.mark(whole, tuple(tint * 0.68), 0.95)
    surface.mark(surface.mask(lit, 3), tuple(tint * 1.15), 0.8)
    np.maximum(surface.height, whole * (0.9 * np.float32(crowns.mean() if len(crowns) else 0)), out=surface.height)
    surface.blocked |= whole > 0.2


def scatter(surface: Surface, count: int, rng: np.random.Generator) -> Float[np.ndarray, "N 2"]:
    """Random places on the ground of the image and a little around it, in meters."""
    return rng.uniform(-0.03, 1.03, (count, 2)) * surface.size_m


def clusters(surface: Surface, count: int, spread_m: float, rng: np.random.Generator) -> Float[np.ndarray, "N 2"]:
    """Places in groups, as trees grow."""
    centers = scatter(surface, max(1, count // 8), rng)
    return np.asarray(centers[rng.integers(0, len(centers), count)] + rng.normal(0, spread_m, (count, 2)))


def build(surface: Surface, lots: Float[np.ndarray, "N 5"], rng: np.random.Generator, stories: tuple[int, int]) -> None:
    """Buildings on free lots (x, y, heading, length, width in meters); perspective lets their walls lean outward."""
    lots = lots[in_view(surface, lots[:, :2], 20.0)][:MOST_FAR_THINGS]
    plans = np.array([rectangle(*lot) for lot in lots.tolist()]).reshape(-1, 4, 2)
    free = are_free(surface, plans, surface.paved | surface.water | surface.blocked)
    lots, plans = lots[free], plans[free]
    if not len(lots) or lots[:, 3].mean() * surface.scale < FAR_HOUSE_PX:
        _build_far(surface, lots, rng)
        return
    for lot, plan in zip(lots[:MOST_BUILDINGS], plans, strict=False):
        if are_free(surface, plan[None], surface.blocked).all():
            _build_one(surface, lot, 3.1 * int(rng.integers(stories[0], stories[1] + 1)), rng)


def _build_one(surface: Surface, lot: Float[np.ndarray, " 5"], tall: float, rng: np.random.Generator) -> None:
    x, y, heading, length, depth = lot.tolist()
    width, height = surface.size_m
    lean = tall / (ALTITUDE_SIZES * max(surface.diagonal_m, 40.0)) * np.array([x - width / 2, y - height / 2])
    _raise_walls(surface, rectangle(*lot.tolist()), lean, rng)
    _roof(surface, Pose(x + lean[0], y + lean[1], heading, (length, depth / _plan_depth(tall))), tall, rng)


def _build_far(surface: Surface, lots: Float[np.ndarray, "N 5"], rng: np.random.Generator) -> None:
    """Houses of a few pixels: two roof faces each, the one toward the sun brighter."""
    paint = rng.integers(0, len(ROOFS), len(lots))
    for index, color in enumerate(ROOFS):
        for side in (-1, 1):
            faces = [_roof_face(lot, side) for lot in lots[paint == index]]
            if not faces:
                continue
            across = lots[0, 2] + side * math.pi / 2
            facing = math.cos(across) * surface.light.toward_sun[0] + math.sin(across) * surface.light.toward_sun[1]
            mask = surface.mask(faces, 3)
            surface.mark(mask, tuple(np.array(color) * (1 + 0.22 * facing * surface.light.direct)), 1.0)
            np.maximum(surface.height, 6 * mask, out=surface.height)
            surface.blocked |= mask > 0.2


def _roof_face(lot: Float[np.ndarray, " 5"], side: int) -> Float[np.ndarray, "4 2"]:
    x, y, heading, length, depth = lot.tolist()
    shift = side * depth / 4
    return rectangle(x - math.sin(heading) * shift, y + math.cos(heading) * shift, heading, length, depth / 2)


def _plan_depth(tall: float) -> float:
    """Width of the unit plan of the roof that suits a building this tall."""
    return 80 / 128 if tall < 8 else 112 / 176


def _roof(surface: Surface, pose: Pose, tall: float, rng: np.random.Generator) -> None:
    pitched, flat = roof_sprites()
    sprites, paints = (pitched, ROOFS) if tall < 8 else (flat, FLAT_ROOFS)
    paint = np.array(paints[int(rng.integers(len(paints)))]) * rng.uniform(0.88, 1.1)
    stamp_scenery(surface, sprites[int(rng.integers(len(sprites)))], pose, tuple(paint), tall=tall)


def _raise_walls(
    surface: Surface, plan: Float[np.ndarray, "4 2"], lean: Float[np.ndarray, " 2"], rng: np.random.Generator
) -> None:
    """Walls between the plan and the roof that the camera's perspective moves outward, lit by the sun or not."""
    if np.hypot(*lean) * surface.scale < 1.0:
        return
    color = np.array(
        [(176, 166, 150), (150, 146, 142), (188, 184, 176), (140, 112, 96)][int(rng.integers(4))], np.float32
    )
    for start, stop in zip(plan, np.roll(plan, -1, axis=0), strict=True):
        normal = (start + stop) / 2 - plan.mean(0)
        normal = normal / max(float(np.hypot(*normal)), 1e-6)
        lit = 0.62 + 0.3 * surface.light.direct * max(0.0, float(normal @ surface.light.toward_sun))
        wall = np.array([start, stop, stop + lean, start + lean])
        surface.fill(wall, tuple(color * lit), blocks=True)


def distract(
    surface: Surface, kinds: tuple[str, ...], amount: float, rng: np.random.Generator, where: Bool[np.ndarray, "H W"]
) -> None:
    """Unlabeled things of about the objects' size on free ground inside `where`."""
    count = min(MOST_DISTRACTORS, int(rng.poisson(9 * amount)))
    rows, columns = np.nonzero(where & ~surface.blocked) if count else (np.zeros(0, int), np.zeros(0, int))
    if not len(rows):
        return
    for index in rng.integers(0, len(rows), count):
        kind = kinds[int(rng.integers(len(kinds)))]
        _put(surface, kind, (columns[index] + 0.5) / surface.scale, (rows[index] + 0.5) / surface.scale, rng)


def _put(surface: Surface, kind: str, x: float, y: float, rng: np.random.Generator) -> None:
    """One distractor, unless something stands there."""
    sprites, paints = distractor_sprites(kind), DISTRACTOR_PAINTS[kind]
    grow = float(rng.uniform(0.8, 1.25)) * (float(rng.uniform(0.7, 2.6)) if kind == "rock" else 1.0)
    pose = Pose(x, y, float(rng.uniform(0, 6.28)), (grow, grow))
    sprite, paint = sprites[int(rng.integers(len(sprites)))], paints[int(rng.integers(len(paints)))]
    length, width = np.ptp(sprite.outline, axis=0) * grow
    if are_free(surface, rectangle(x, y, pose.heading, length, width)[None], surface.blocked).all():
        stamp_scenery(surface, sprite, pose, paint)


def patches(surface: Surface, amount: float, rng: np.random.Generator, heading: float) -> None:
    """Mended asphalt, oil and manholes on the paving: flat and as large as a car."""
    rows, columns = np.nonzero(surface.paved)
    count = min(40, int(rng.poisson(8 * amount)))
    if not len(rows) or not count:
        return
    dark: list[np.ndarray] = []
    light: list[np.ndarray] = []
    for index in rng.integers(0, len(rows), count):
        x, y = columns[index] / surface.scale, rows[index] / surface.scale
        turn = heading + float(rng.integers(2)) * math.pi / 2 + float(rng.normal(0, 0.03))
        shape = rectangle(x, y, turn, float(rng.uniform(0.7, 6)), float(rng.uniform(0.7, 2.2)))
        (dark if rng.random() < 0.65 else light).append(shape)
    surface.mark(surface.mask(dark) * surface.paved, (66.0, 66.0, 68.0), float(rng.uniform(0.25, 0.6)))
    surface.mark(surface.mask(light) * surface.paved, (160.0, 158.0, 152.0), float(rng.uniform(0.2, 0.5)))
