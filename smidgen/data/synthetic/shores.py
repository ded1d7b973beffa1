"""Where land meets water: a harbor with quay and piers, and a beach."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy.ndimage import uniform_filter

from smidgen.data.synthetic import scenery
from smidgen.data.synthetic.ground import crop, noise_tile, water_texture
from smidgen.data.synthetic.roads import Road, add_traffic, gentle_path, pave_roads, rectangles
from smidgen.data.synthetic.streets import Frame, lay_parking, pave_slabs
from smidgen.data.synthetic.surface import Surface


def harbor(surface: Surface, rng: np.random.Generator, distractors: float) -> None:
    """Water with boats at piers and under way; a quay with a road, parked cars and sheds."""
    frame = Frame(surface.size_m[0] / 2, surface.size_m[1] / 2, float(rng.uniform(0, 2 * math.pi)))
    reach = surface.diagonal_m / 2
    edge = float(rng.uniform(0.05, 0.75)) * reach  # land lies beyond v = edge
    _flood(surface, rng)
    piers = _piers(surface, frame, edge, reach, rng)
    quay = [
        frame.to_image(
            np.array([(-2 * reach, edge), (2 * reach, edge), (2 * reach, 3 * reach), (-2 * reach, 3 * reach)])
        )
    ]
    _lay_land(surface, surface.mask(quay), surface.mask(piers), frame, rng)
    _shadow_of_edge(surface)
    _behind_the_quay(surface, frame, edge, reach, rng)
    surface.add_spots("sea", np.column_stack([scenery.scatter(surface, 260, rng), rng.uniform(0, 6.28, 260)]))
    scenery.distract(surface, ("crate", "bin", "bin", "rock", "crate"), distractors, rng, ~surface.water)
    scenery.distract(surface, ("buoy",), 0.8 * distractors, rng, surface.water)


def _flood(surface: Surface, rng: np.random.Generator) -> None:
    surface.albedo[:] = water_texture(rng, *surface.shape, surface.scale)
    surface.water[:] = True


def _piers(surface: Surface, frame: Frame, edge: float, reach: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Piers across the quay; berths lie on both sides of each, a boat's length apart."""
    polygons, berth = [], float(rng.uniform(3.6, 5.0))
    gap, length = float(rng.uniform(26, 40)), float(rng.uniform(25, 70))
    first = float(rng.uniform(-0.5, 0.5)) * min(gap, reach)
    for index in range(-math.ceil(reach / gap) - 1, math.ceil(reach / gap) + 2):
        u = first + index * gap
        pier = frame.poses(np.array([(u, edge - length / 2 + 1)]), math.pi / 2)
        polygons += list(rectangles(pier, length + 2, 2.0))
        v = np.arange(edge - length + 2, edge - 5, berth)
        for side in (-1, 1):
            points = np.column_stack([np.full(len(v), u + side * 5.9), v])
            heading = np.where(rng.random(len(v)) < 0.8, 0.0, math.pi) + (math.pi if side > 0 else 0.0)
            poses = frame.poses(points, heading)
            surface.add_spots("berth", poses + rng.normal(0, (0.25, 0.25, 0.05), poses.shape))
        walkers = np.column_stack([np.full(10, u) + rng.normal(0, 0.5, 10), rng.uniform(edge - length, edge, 10)])
        surface.add_spots("walk", frame.poses(walkers, rng.choice([0.5, 1.5], 10) * math.pi))
    return polygons


def _lay_land(
    surface: Surface,
    quay: Float[np.ndarray, "H W"],
    piers: Float[np.ndarray, "H W"],
    frame: Frame,
    rng: np.random.Generator,
) -> None:
    surface.cover(piers, str(rng.choice(["planks", "concrete", "planks"])), rng)
    pave_slabs(surface, piers, frame.angle, 0.9, rng)
    surface.cover(quay, str(rng.choice(["concrete", "old_asphalt", "pavers"])), rng)
    pave_slabs(surface, quay, frame.angle, float(rng.choice([2.5, 5.0])), rng)
    land = np.maximum(quay, piers)
    surface.water &= land < 0.02
    surface.height[:] = np.maximum(surface.height, 1.1 * (land > 0.5))


def _shadow_of_edge(surface: Surface) -> None:
    """Water is darker right at a wall, where it mirrors the wall."""
    near = uniform_filter((~surface.water).astype(np.float32), max(3, int(2.5 * surface.scale)))
    surface.albedo *= 1 - 0.35 * (near * surface.water)[..., None]


def _behind_the_quay(surface: Surface, frame: Frame, edge: float, reach: float, rng: np.random.Generator) -> None:
    start, stop = frame.to_image(np.array([(-reach - 30, edge + 14), (reach + 30, edge + 14)]))
    road = Road(gentle_path(start, stop, 0.0, rng), parking=True, sidewalk=2.5)
    if edge + 14 < reach + 10:
        pave_roads(surface, [[road]], rng)
        add_traffic(surface, road, rng, float(rng.uniform(4, 20)))
    lay_parking(surface, frame, [(-reach, reach, edge + 26, edge + 26 + 17)], rng)
    u = np.arange(-reach, reach, 34.0) + rng.uniform(-5, 5)
    sheds = frame.poses(np.column_stack([u, np.full(len(u), edge + 62)]), 0.0)
    sizes = np.column_stack([rng.uniform(16, 28, len(u)), rng.uniform(10, 16, len(u))])
    scenery.build(surface, np.concatenate([sheds, sizes], -1), rng, (2, 4))
    strollers = np.column_stack([rng.uniform(-reach, reach, 60), edge + rng.uniform(1, 7, 60)])
    surface.add_spots("walk", frame.poses(strollers, rng.choice([0.0, math.pi], 60)))
    trees = np.column_stack([rng.uniform(-reach, reach, 24), edge + rng.uniform(45, 90, 24)])
    scenery.plant(surface, frame.to_image(trees), rng, (3.0, 7.0))


def beach(surface: Surface, rng: np.random.Generator, distractors: float) -> None:
    """Sand, wet sand, foam and water that deepens; bathers, towels, parasols, and a few boats."""
    angle = float(rng.uniform(0, 2 * math.pi))
    out = _distance_offshore(surface, angle, rng)
    surface.lay("sand", rng)
    surface.cover(np.clip((out + 4.0) / 2.5, 0, 1), "wet_sand", rng)
    depth = np.clip(out / 14.0, 0, 1)[..., None]
    shallow, deep = np.array([132, 152, 138], np.float32), water_texture(rng, *surface.shape, surface.scale)
    sea = shallow + (deep - shallow) * depth + (deep - deep.mean((0, 1))) * (1 - depth)
    surface.blend((slice(None), slice(None)), sea, np.clip(out / 1.2 + 0.25, 0, 1))
    surface.water = out > 0
    _foam(surface, out, rng)
    _bathers(surface, out, rng)
    scenery.plant(surface, scenery.clusters(surface, 14, 4.0, rng), rng, (2.0, 4.5)) if rng.random() < 0.4 else None
    scenery.distract(surface, ("towel", "parasol", "towel", "rock"), 2.2 * distractors, rng, out < -5)
    scenery.distract(surface, ("rock", "buoy"), 0.5 * distractors, rng, surface.water)


def _distance_offshore(surface: Surface, angle: float, rng: np.random.Generator) -> Float[np.ndarray, "H W"]:
    """Meters from the waterline, positive at sea; the line winds."""
    height, width = surface.shape
    x = (np.arange(width, dtype=np.float32) - width / 2)[None, :]
    y = (np.arange(height, dtype=np.float32) - height / 2)[:, None]
    straight = x * np.float32(math.cos(angle)) + y * np.float32(math.sin(angle))
    shift = float(rng.uniform(-0.3, 0.3)) * min(height, width)
    winding = 0.03 * min(height, width) * crop(noise_tile(1.9, 10), rng, height, width)
    return np.asarray((straight + winding + shift) / surface.scale, np.float32)


def _foam(surface: Surface, out: Float[np.ndarray, "H W"], rng: np.random.Generator) -> None:
    """Breaking waves: lace-like bands along the shore."""
    lace = crop(noise_tile(1.35, 11), rng, *surface.shape)
    foam = np.zeros(surface.shape, np.float32)
    for line, thickness in ((0.4, 0.6), (float(rng.uniform(5, 8)), 0.8), (float(rng.uniform(11, 16)), 0.6)):
        if rng.random() < 0.85:
            band = np.exp(-(((out - line) / (2.5 * thickness)) ** 2))
            foam += (
                band * np.exp(-(((out - line - 1.3 * lace) / thickness) ** 2)) * np.clip(0.8 - 0.5 * np.abs(lace), 0, 1)
            )
    surface.blend(
        (slice(None), slice(None)), np.array([232, 236, 234], np.float32), np.clip(foam, 0, 0.8) * (out > -1.5)
    )


def _bathers(surface: Surface, out: Float[np.ndarray, "H W"], rng: np.random.Generator) -> None:
    places = scenery.scatter(surface, 500, rng)
    poses = np.column_stack([places, rng.uniform(0, 6.28, len(places))])
    columns, rows = np.clip((places * surface.scale).astype(int), 0, np.array(surface.shape[::-1]) - 1).T
    offshore = out[rows, columns]
    # Most people keep to the strip around the waterline.
    surface.add_spots("walk", poses[(offshore < -1) & (rng.random(500) < np.exp(offshore / 25) + 0.15)])
    surface.add_spots("sea", poses[offshore > 14])
