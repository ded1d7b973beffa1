"""A town: a turned grid of slightly bent streets, whose blocks hold houses, greens and parking lots."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from smidgen.data.synthetic import scenery
from smidgen.data.synthetic.ground import stripes
from smidgen.data.synthetic.roads import WHITE, Road, add_traffic, gentle_path, pave_roads, rectangles
from smidgen.data.synthetic.surface import Surface, bounding_window

SLOT_M = (2.55, 5.1)  # width, depth of a parking slot
AISLE_M = 6.2
MOST_LINES_PER_AXIS = 9


@dataclass(frozen=True, slots=True)
class Frame:
    """A turned coordinate system: center in meters of the image, angle in radians."""

    x: float
    y: float
    angle: float

    def to_image(self, points: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2"]:
        """Points of this frame in meters of the image."""
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        return np.asarray(np.asarray(points, float) @ np.array([[cosine, sine], [-sine, cosine]]) + (self.x, self.y))

    def poses(
        self, points: Float[np.ndarray, "N 2"], heading: Float[np.ndarray, " N"] | float
    ) -> Float[np.ndarray, "N 3"]:
        """Poses (x, y, heading) in the image from points and headings of this frame."""
        turned = np.broadcast_to(np.asarray(heading, float) + self.angle, (len(points),))
        return np.column_stack([self.to_image(points), turned])


Block = tuple[float, float, float, float]  # u0, u1, v0, v1 in meters of the frame


def streets(surface: Surface, rng: np.random.Generator, distractors: float) -> None:
    """Streets with traffic, parked cars and sidewalks between houses and greens."""
    _town(
        surface,
        rng,
        distractors,
        parking_share=0.25,
        spacing=(rng.uniform(50, 90), rng.uniform(60, 110)),
        centered=False,
    )


def parking(surface: Surface, rng: np.random.Generator, distractors: float) -> None:
    """Parking lots, with the image's center inside one."""
    _town(
        surface,
        rng,
        distractors,
        parking_share=0.85,
        spacing=(rng.uniform(70, 130), rng.uniform(60, 100)),
        centered=True,
    )


def _town(
    surface: Surface,
    rng: np.random.Generator,
    distractors: float,
    *,
    parking_share: float,
    spacing: tuple[float, float],
    centered: bool,
) -> None:
    surface.lay(
        str(rng.choice(["grass", "lawn", "concrete", "scrub"], p=[0.4, 0.25, 0.2, 0.15])),
        rng,
    )
    frame = Frame(surface.size_m[0] / 2, surface.size_m[1] / 2, float(rng.uniform(0, math.pi)))
    across, along = (_lines(surface, gap, rng, centered) for gap in spacing)
    bend = float(rng.uniform(0, 3.5)) if rng.random() < 0.6 else 0.0
    families = [
        _roads(surface, frame, lines, vertical, bend, rng) for lines, vertical in ((across, True), (along, False))
    ]
    pave_roads(surface, families, rng, str(rng.choice(["asphalt", "old_asphalt"])))
    gap = float(rng.uniform(3, 22))
    for road in (road for family in families for road in family):
        add_traffic(surface, road, rng, gap)
    blocks = [block for block in _blocks(across, along, bend) if _is_in_view(surface, frame, block)]
    _fill_blocks(surface, frame, blocks, rng, parking_share)
    scenery.patches(surface, distractors, rng, frame.angle)
    scenery.distract(
        surface, ("bin", "rock", "crate", "air_conditioner"), distractors, rng, ~surface.water & ~surface.paved
    )


def _lines(surface: Surface, gap: float, rng: np.random.Generator, centered: bool) -> list[float]:
    """Positions of parallel streets across the image; where not centered, one of them is in view."""
    reach = surface.diagonal_m / 2
    gap = max(gap, 2 * reach / MOST_LINES_PER_AXIS)
    first = (
        gap / 2 + float(rng.uniform(-0.2, 0.2)) * gap if centered else float(rng.uniform(-0.35, 0.35)) * min(gap, reach)
    )
    count = math.ceil(reach / gap) + 1
    return [
        first + index * gap + (float(rng.uniform(-0.1, 0.1)) * gap if index else 0.0)
        for index in range(-count, count + 1)
    ]


def _roads(
    surface: Surface, frame: Frame, lines: list[float], vertical: bool, bend: float, rng: np.random.Generator
) -> list[Road]:
    reach = surface.diagonal_m / 2 + 30
    lanes, parked = int(rng.choice([1, 1, 2])), bool(rng.random() < 0.6)
    roads = []
    for line in lines:
        ends = np.array([(line, -reach), (line, reach)]) if vertical else np.array([(-reach, line), (reach, line)])
        start, stop = frame.to_image(ends)
        roads.append(Road(gentle_path(start, stop, bend, rng), lanes, parked, float(rng.uniform(2.0, 3.5))))
    return roads


def _blocks(across: list[float], along: list[float], bend: float) -> list[Block]:
    """Rectangles between the streets, clear of the widest street and its bends."""
    inset = 2 * 3.3 + 2.3 + 3.5 + bend + 1.0
    blocks = []
    for u0, u1 in pairwise(across):
        for v0, v1 in pairwise(along):
            blocks.append((u0 + inset, u1 - inset, v0 + inset, v1 - inset))
    return [block for block in blocks if block[1] - block[0] > 12 and block[3] - block[2] > 12]


def _is_in_view(surface: Surface, frame: Frame, block: Block) -> bool:
    corners = _corners(frame, block)
    return bool((corners.max(0) > 0).all() and (corners.min(0) < surface.size_m).all())


def _fill_blocks(
    surface: Surface, frame: Frame, blocks: list[Block], rng: np.random.Generator, parking_share: float
) -> None:
    lots: list[np.ndarray] = []
    towers = int(rng.choice([2, 2, 4, 6]))
    parks = rng.random(len(blocks)) < parking_share
    center = min(range(len(blocks)), key=lambda index: _distance(blocks[index]), default=None)
    if center is not None and parking_share > 0.5:
        parks[center] = True
    _vary_greens(surface, frame, [block for block, parked in zip(blocks, parks, strict=True) if not parked], rng)
    lay_parking(surface, frame, [block for block, parked in zip(blocks, parks, strict=True) if parked], rng)
    for block, parked in zip(blocks, parks, strict=True):
        if not parked and rng.random() < 0.85:
            lots.append(_house_lots(frame, block, rng))
    if lots:
        houses = np.concatenate(lots)
        scenery.build(surface, houses[rng.random(len(houses)) < 0.75], rng, (1, towers))
    density = int(np.clip(surface.size_m[0] * surface.size_m[1] / 110, 4, 260) * rng.uniform(0.3, 1.2))
    places = np.concatenate(
        [scenery.scatter(surface, density, rng), scenery.clusters(surface, density // 2 + 1, 6.0, rng)]
    )
    places = rng.permutation(places)
    scenery.plant(surface, places, rng, (3.0, 8.0))


def _vary_greens(surface: Surface, frame: Frame, blocks: list[Block], rng: np.random.Generator) -> None:
    """Some blocks lie fallow, are paved, or are woods."""
    corners = [_corners(frame, block) for block in blocks]
    kinds = rng.choice(["same", "scrub", "concrete", "soil", "woods"], len(blocks), p=[0.4, 0.2, 0.12, 0.08, 0.2])
    for kind in ("scrub", "concrete", "soil"):
        surface.cover(
            surface.mask([corner for corner, chosen in zip(corners, kinds, strict=True) if chosen == kind]), kind, rng
        )
    for block in (block for block, chosen in zip(blocks, kinds, strict=True) if chosen == "woods"):
        low, high = (block[0], block[2]), (block[1], block[3])
        count = int(min(50, (block[1] - block[0]) * (block[3] - block[2]) / 45))
        scenery.plant(surface, frame.to_image(rng.uniform(low, high, (count, 2))), rng, (5.0, 9.0))


def _corners(frame: Frame, block: Block) -> Float[np.ndarray, "4 2"]:
    u0, u1, v0, v1 = block
    return frame.to_image(np.array([(u0, v0), (u1, v0), (u1, v1), (u0, v1)]))


def _distance(block: Block) -> float:
    return math.hypot(block[0] + block[1], block[2] + block[3])


def _house_lots(frame: Frame, block: Block, rng: np.random.Generator) -> Float[np.ndarray, "N 5"]:
    """Lots (x, y, heading, length, width) in rows along a block."""
    length, depth = float(rng.uniform(11, 26)), float(rng.uniform(8, 14))
    u = np.arange(block[0] + length / 2, block[1] - length / 2 + 0.1, length + rng.uniform(3, 8))
    v = np.arange(block[2] + depth / 2, block[3] - depth / 2 + 0.1, depth + rng.uniform(7, 14))
    points = np.stack(np.meshgrid(u, v), -1).reshape(-1, 2)
    poses = frame.poses(points + rng.normal(0, 0.5, points.shape), 0.0)
    sizes = np.array([length, depth]) * rng.uniform(0.75, 1.05, (len(points), 2))
    return np.concatenate([poses, sizes], -1)


def lay_parking(surface: Surface, frame: Frame, blocks: list[Block], rng: np.random.Generator) -> None:
    """Lots with marked slots on both sides of aisles; islands with trees end the rows."""
    if not blocks:
        return
    mask = surface.mask([_corners(frame, block) for block in blocks])
    surface.cover(mask, str(rng.choice(["asphalt", "old_asphalt", "concrete"], p=[0.5, 0.35, 0.15])), rng)
    surface.paved |= mask > 0.5
    slant = float(rng.choice([0.0, 0.0, 0.5]))
    lines: list[np.ndarray] = []
    islands: list[np.ndarray] = []
    for block in blocks:
        _lay_rows(surface, frame, block, slant, lines, islands, rng)
    if surface.scale > 0.8:
        surface.mark(surface.mask(lines), WHITE, float(rng.uniform(0.4, 0.85)))
    if islands and rng.random() < 0.7:
        _grow_islands(surface, islands, rng)


def _lay_rows(
    surface: Surface,
    frame: Frame,
    block: Block,
    slant: float,
    lines: list[np.ndarray],
    islands: list[np.ndarray],
    rng: np.random.Generator,
) -> None:
    u0, u1, v0, v1 = block
    width, depth = SLOT_M
    pitch = width / math.cos(slant)
    u = np.arange(u0 + 6, u1 - 6, pitch)
    for v in np.arange(v0 + depth / 2 + 0.5, v1 - depth / 2, 2 * depth + AISLE_M):
        for side in (0, 1):
            row = v + side * depth
            if row + depth / 2 > v1 or len(u) < 2:
                continue
            across = math.pi / 2 - slant
            slots = frame.poses(np.column_stack([u, np.full(len(u), row)]), across)
            lines += list(rectangles(slots, depth / math.cos(slant), 0.13))
            middle = np.column_stack([(u[:-1] + u[1:]) / 2, np.full(len(u) - 1, row)])
            poses = frame.poses(middle, across + math.pi * rng.integers(0, 2, len(middle)))
            surface.add_spots("slot", poses + rng.normal(0, (0.12, 0.18, 0.025), poses.shape))
            ends = frame.poses(np.array([(u0 + 4.2, row), (u[-1] + 1.8, row)]), 0.0)
            islands += list(rectangles(ends, 2.6, depth))
        walkers = rng.uniform((u0, v + depth * 1.5), (u1, v + depth * 1.5 + AISLE_M), (max(1, int((u1 - u0) / 8)), 2))
        surface.add_spots(
            "walk", frame.poses(walkers, rng.choice([0.0, math.pi], len(walkers)) + rng.normal(0, 0.4, len(walkers)))
        )


def _grow_islands(surface: Surface, islands: list[np.ndarray], rng: np.random.Generator) -> None:
    mask = surface.mask(islands)
    surface.cover(mask, "lawn", rng)
    surface.paved &= mask < 0.5
    surface.blocked |= mask > 0.5
    chosen = np.array([island.mean(0) for island in islands])[rng.random(len(islands)) < 0.7]
    blocked, surface.blocked = surface.blocked, np.zeros_like(surface.blocked)
    scenery.plant(surface, chosen, rng, (2.5, 4.5))
    surface.blocked |= blocked


def pave_slabs(
    surface: Surface, mask: Float[np.ndarray, "H W"], angle: float, slab_m: float, rng: np.random.Generator
) -> None:
    """Joints between paving slabs."""
    window = bounding_window(mask > 0)
    if window is None or slab_m * surface.scale < 4:
        return
    shape = mask[window].shape
    # sin(x) exceeds 1 - 1 / sharpness over this share of its period.
    share = max(0.05, 1.0 / surface.scale) / slab_m
    sharpness = max(1.0, 2 / (math.pi * share) ** 2)
    joints = sum(
        np.clip((stripes(shape, slab_m * surface.scale, angle + turn, rng) - 1) * sharpness + 1, 0, 1)
        for turn in (0.0, math.pi / 2)
    )
    surface.blend(
        window, np.array([96, 92, 86], np.float32), np.asarray(joints, np.float32) * mask[window] * np.float32(0.45)
    )
