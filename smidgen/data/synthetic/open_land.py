"""Country and squares: fields with rows of crops, tracks and a road; a paved square with lawns and trees."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from smidgen.data.synthetic import scenery
from smidgen.data.synthetic.ground import material_texture, stripes
from smidgen.data.synthetic.roads import Road, add_traffic, gentle_path, pave_roads, ribbon
from smidgen.data.synthetic.streets import Frame, pave_slabs
from smidgen.data.synthetic.surface import Surface

CROPS = ("maize", "wheat", "ploughed", "stubble", "grass", "rapeseed", "scrub")
ROW_M = {"maize": 0.8, "wheat": 0.5, "ploughed": 1.0, "stubble": 2.2, "rapeseed": 0.6}


def fields(surface: Surface, rng: np.random.Generator, distractors: float) -> None:
    """A patchwork of crops with tram lines, dirt tracks between them, hedges, and a country road."""
    surface.lay("soil", rng)
    frame = Frame(surface.size_m[0] / 2, surface.size_m[1] / 2, float(rng.uniform(0, math.pi)))
    reach = surface.diagonal_m / 2
    cell = max(22.0, reach * float(rng.uniform(0.5, 1.0)))
    u, v = (_cuts(reach, cell * stretch, rng) for stretch in (1.0, 0.65))
    for u0, u1 in pairwise(u):
        for v0, v1 in pairwise(v):
            track = float(rng.choice([0.6, 1.6]))
            corners = np.array(
                [(u0 + track, v0 + track), (u1 - track, v0 + track), (u1 - track, v1 - track), (u0 + track, v1 - track)]
            )
            _sow(surface, frame.to_image(corners), frame.angle, rng)
    _country_road(surface, frame, reach, rng)
    hedge = np.array([(line, along) for line in u for along in rng.uniform(-reach, reach, 12)]) + rng.normal(
        0, 1.2, (12 * len(u), 2)
    )
    scenery.plant(surface, frame.to_image(hedge)[rng.random(len(hedge)) < 0.6], rng, (2.5, 7.0))
    scenery.plant(surface, scenery.clusters(surface, 18, 5.0, rng), rng, (3.0, 8.0))
    scenery.distract(surface, ("bale", "rock", "bale", "bin"), distractors * 1.2, rng, ~surface.paved)


def _cuts(reach: float, cell: float, rng: np.random.Generator) -> Float[np.ndarray, " N"]:
    first = -reach - float(rng.uniform(0, 1)) * cell
    return first + cell * np.arange(math.ceil((2 * reach + cell) / cell) + 1)


def _sow(surface: Surface, corners: Float[np.ndarray, "4 2"], angle: float, rng: np.random.Generator) -> None:
    """One field: crop, rows, and the tram lines of the tractor."""
    window, patch = surface.window_mask([corners])
    if not patch.any():
        return
    crop = str(rng.choice(CROPS))
    surface.blend(window, material_texture(crop, rng, *patch.shape), patch)
    turn = angle + float(rng.integers(2)) * math.pi / 2 + float(rng.normal(0, 0.02))
    albedo = surface.albedo[window]
    if crop in ROW_M:
        rows = stripes(patch.shape, ROW_M[crop] * surface.scale, turn, rng, 0.5)
        bands = stripes(patch.shape, 6 * ROW_M[crop] * surface.scale, turn, rng, 0.8)
        albedo *= 1 + (0.13 * rows + 0.045 * bands)[..., None] * patch[..., None]
    if crop != "scrub":
        tram = stripes(patch.shape, 14 * surface.scale, turn, rng, 0.8)
        wheels = np.exp(-(((np.abs(tram) - 0.32) / max(0.06, 0.07 / surface.scale)) ** 2)) * (tram > 0)
        albedo *= 1 - 0.16 * (wheels * patch)[..., None]


def _country_road(surface: Surface, frame: Frame, reach: float, rng: np.random.Generator) -> None:
    offset = float(rng.uniform(-0.45, 0.45)) * reach
    turn = Frame(frame.x, frame.y, frame.angle + float(rng.choice([0.0, math.pi / 2, 0.4])))
    start, stop = turn.to_image(np.array([(-reach - 20, offset), (reach + 20, offset)]))
    road = Road(gentle_path(start, stop, float(rng.uniform(0, 9)), rng), sidewalk=0.0)
    verge = surface.mask([ribbon(road.path, 0, 2 * road.half_width + 4.5)])
    surface.cover(verge, "grass", rng)
    if rng.random() < 0.75:
        pave_roads(surface, [[road]], rng, str(rng.choice(["asphalt", "old_asphalt"])))
    else:
        lane = surface.mask([ribbon(road.path, 0, 5.5)])
        surface.cover(lane, "soil", rng)
        surface.paved |= lane > 0.5
        tracks = surface.mask([ribbon(road.path, right, 0.7) for right in (-2.3, -0.8, 0.8, 2.3)])
        surface.mark(tracks, (176.0, 156.0, 128.0), 0.5)
    add_traffic(surface, road, rng, float(rng.uniform(5, 30)))


def plaza(surface: Surface, rng: np.random.Generator, distractors: float) -> None:
    """A square of slabs with lawns, trees, stalls and people crossing it."""
    everywhere = np.ones(surface.shape, np.float32)
    surface.lay(str(rng.choice(["pavers", "concrete", "old_asphalt"])), rng)
    frame = Frame(surface.size_m[0] / 2, surface.size_m[1] / 2, float(rng.uniform(0, math.pi)))
    pave_slabs(surface, everywhere, frame.angle, float(rng.choice([0.6, 1.0, 2.4, 5.0])), rng)
    lawns = _lawns(surface, frame, rng)
    surface.cover(lawns, str(rng.choice(["lawn", "grass"])), rng)
    surface.paved = lawns < 0.5
    _crowd(surface, rng)
    paved, surface.paved = surface.paved, surface.paved & (rng.random() < 0.7)
    count = int(np.clip(surface.size_m[0] * surface.size_m[1] / 160, 1, 45))
    scenery.plant(surface, scenery.clusters(surface, count, 7.0, rng), rng, (2.5, 6.5))
    surface.paved = paved
    scenery.patches(surface, 0.6 * distractors, rng, frame.angle)
    scenery.distract(surface, ("bin", "parasol", "rock", "bin"), distractors, rng, np.ones_like(surface.paved))


def _lawns(surface: Surface, frame: Frame, rng: np.random.Generator) -> Float[np.ndarray, "H W"]:
    reach = surface.diagonal_m / 2
    polygons = []
    for _ in range(int(rng.integers(1, 5))):
        center, half = rng.uniform(-reach, reach, 2), rng.uniform(0.12, 0.5, 2) * reach
        angles = np.linspace(0, 2 * np.pi, 40)
        # A superellipse: between an oval bed and a rectangle with round corners.
        power = float(rng.choice([1.0, 0.45, 0.25]))
        edge = np.stack([np.sign(f) * np.abs(f) ** power for f in (np.cos(angles), np.sin(angles))], -1)
        polygons.append(frame.to_image(center + edge * half))
    return surface.mask(polygons)


def _crowd(surface: Surface, rng: np.random.Generator) -> None:
    """People alone and in groups that walk or stand together."""
    centers = np.column_stack([scenery.scatter(surface, 220, rng), rng.uniform(0, 6.28, 220)])
    companions = centers[rng.integers(0, 60, 160)] + rng.normal(0, (0.9, 0.9, 0.5), (160, 3))
    surface.add_spots("walk", np.concatenate([centers, companions]))
    surface.add_spots("lane", np.column_stack([scenery.scatter(surface, 40, rng), rng.uniform(0, 6.28, 40)]))
