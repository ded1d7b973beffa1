"""Roads as center lines in meters: ribbons along them, their markings, and where vehicles drive, park and walk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from smidgen.data.synthetic.surface import Surface

LANE_M = 3.3
PARKING_M = 2.3
SIDEWALK_M = 3.0
WHITE = (222.0, 222.0, 216.0)

Path = Float[np.ndarray, "N 2"]


@dataclass(frozen=True, slots=True, eq=False)
class Road:
    """A street.

    path: center line in meters. lanes: per direction. parking: a strip for cars on both sides. sidewalk: width, m.
    """

    path: Path
    lanes: int = 1
    parking: bool = False
    sidewalk: float = SIDEWALK_M

    @property
    def half_width(self) -> float:
        """From the center line to the curb, in meters."""
        return self.lanes * LANE_M + (PARKING_M if self.parking else 0.3)


def gentle_path(
    start: Float[np.ndarray, " 2"], stop: Float[np.ndarray, " 2"], bend_m: float, rng: np.random.Generator
) -> Path:
    """A line from start to stop that swings `bend_m` meters to either side."""
    length = float(np.hypot(*(stop - start)))
    along = np.linspace(0, 1, max(8, int(length / 4)))[:, None]
    direction = (stop - start) / length
    wave = np.sin(along * length / rng.uniform(90, 220) * 6.28 + rng.uniform(0, 6.28))
    return np.asarray(start + (stop - start) * along + np.array([-direction[1], direction[0]]) * wave * bend_m)


def resampled(path: Path, step_m: float, first_m: float = 0.0) -> Float[np.ndarray, "N 3"]:
    """Points (x, y, heading) every `step_m` meters along a path."""
    lengths = distances(path)
    return along_path(path, lengths, np.arange(first_m, lengths[-1], step_m))


def distances(path: Path) -> Float[np.ndarray, " N"]:
    """How far along a path each of its points lies, in meters."""
    return np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])


def along_path(path: Path, lengths: Float[np.ndarray, " N"], at: Float[np.ndarray, " M"]) -> Float[np.ndarray, "M 3"]:
    """Points (x, y, heading) at these distances from the start; lengths: distance of each path point."""
    heading = np.unwrap(np.arctan2(np.gradient(path[:, 1]), np.gradient(path[:, 0])))
    return np.stack([np.interp(at, lengths, column) for column in (path[:, 0], path[:, 1], heading)], -1)


def beside(poses: Float[np.ndarray, "N 3"], right_m: float) -> Float[np.ndarray, "N 3"]:
    """The same poses moved to the right of their heading."""
    x, y, heading = poses.T
    return np.stack([x - np.sin(heading) * right_m, y + np.cos(heading) * right_m, heading], -1)


def ribbon(path: Path, right_m: float, width_m: float) -> Path:
    """Outline of a strip along a path, its middle `right_m` to the right."""
    poses = along_path(path, distances(path), distances(path))
    near, far = (beside(poses, right_m + side * width_m / 2)[:, :2] for side in (-1, 1))
    return np.concatenate([near, far[::-1]])


def dashes(path: Path, right_m: float, width_m: float, dash_m: float, gap_m: float) -> list[Path]:
    """Rectangles of a broken line."""
    return list(rectangles(beside(resampled(path, dash_m + gap_m), right_m), dash_m, width_m))


def rectangles(poses: Float[np.ndarray, "N 3"], length: float, width: float) -> Float[np.ndarray, "N 4 2"]:
    """Corners of rectangles around poses (x, y, heading)."""
    heading = poses[:, 2]
    forward = np.stack([np.cos(heading), np.sin(heading)], -1) * length / 2
    right = np.stack([-np.sin(heading), np.cos(heading)], -1) * width / 2
    corners = np.stack([forward + right, forward - right, -forward - right, -forward + right], 1)
    return np.asarray(poses[:, None, :2] + corners)


def rectangle(x: float, y: float, heading: float, length: float, width: float) -> Path:
    """Corners of a rectangle around (x, y)."""
    return np.asarray(rectangles(np.array([(x, y, heading)]), length, width)[0])


def markings(road: Road) -> list[Path]:
    """Center line, lane dashes and edge lines as polygons in meters."""
    polygons = [ribbon(road.path, 0.0, 0.16)] if road.lanes > 1 else dashes(road.path, 0.0, 0.14, 3.0, 4.5)
    for lane in range(1, road.lanes):
        for side in (-1, 1):
            polygons += dashes(road.path, side * lane * LANE_M, 0.14, 3.0, 6.0)
    edge = road.lanes * LANE_M - 0.1
    polygons += [ribbon(road.path, side * edge, 0.13) for side in (-1, 1)]
    return polygons


def crosswalks(road: Road, rng: np.random.Generator, every_m: float) -> list[Path]:
    """Zebra stripes across the road at irregular intervals."""
    crossings = resampled(road.path, every_m, rng.uniform(0, every_m))
    offsets = np.arange(-road.lanes * LANE_M + 0.6, road.lanes * LANE_M, 1.1)
    return [stripe for offset in offsets for stripe in rectangles(beside(crossings, offset), 3.2, 0.5)]


def arrows(road: Road, rng: np.random.Generator) -> list[Path]:
    """Direction arrows in the lanes, which are as long as a car."""
    outline = np.array([(-2.2, 0.08), (0.6, 0.08), (0.6, 0.4), (2.2, 0), (0.6, -0.4), (0.6, -0.08), (-2.2, -0.08)])
    polygons = []
    for x, y, heading in resampled(road.path, 34.0, rng.uniform(0, 34)):
        for side in (-1, 1):
            turn = heading + (np.pi if side < 0 else 0)
            cosine, sine = np.cos(turn), np.sin(turn)
            center = beside(np.array([[x, y, turn]]), LANE_M / 2)[0, :2]
            polygons.append(outline @ np.array([[cosine, sine], [-sine, cosine]]) + center)
    return polygons


def add_traffic(surface: Surface, road: Road, rng: np.random.Generator, gap_m: float) -> None:
    """Spots in the lanes (right-hand traffic), along the curb and on the sidewalks."""
    cumulative = distances(road.path)
    length = float(cumulative[-1])
    for side in (-1, 1):
        turn = np.pi if side < 0 else 0.0
        for lane in range(road.lanes):
            at = np.cumsum(rng.uniform(6.5, 6.5 + 2 * gap_m, int(length / (6.5 + gap_m)) + 1))
            poses = beside(along_path(road.path, cumulative, at[at < length]), side * (lane + 0.5) * LANE_M)
            poses = poses + rng.normal(0, (0.1, 0.1, 0.02), poses.shape)
            surface.add_spots("lane", poses + np.array([0, 0, turn]))
        if road.parking:
            at = np.arange(rng.uniform(0, 6), length, 6.0)
            poses = beside(along_path(road.path, cumulative, at), side * (road.lanes * LANE_M + 1.1))
            surface.add_spots("slot", poses + rng.normal(0, (0.1, 0.1, 0.03), poses.shape) + (0, 0, turn))
        at = rng.uniform(0, length, int(length / 3) + 2)
        walkers = beside(along_path(road.path, cumulative, at), side * (road.half_width + road.sidewalk / 2))
        walkers[:, 2] += rng.choice([0.0, np.pi], len(walkers)) + rng.normal(0, 0.25, len(walkers))
        walkers[:, :2] += rng.normal(0, 0.25 * max(road.sidewalk, 1.0), (len(walkers), 2))
        surface.add_spots("walk", walkers)


def pave_roads(
    surface: Surface, families: list[list[Road]], rng: np.random.Generator, material: str = "asphalt"
) -> None:
    """Sidewalks, asphalt and markings; families of roads that cross each other wipe the markings where they meet."""
    roads = [road for family in families for road in family]
    walks = [ribbon(road.path, 0, 2 * (road.half_width + road.sidewalk)) for road in roads if road.sidewalk > 0]
    surface.cover(surface.mask(walks), "concrete", rng)
    lanes = [surface.mask([ribbon(road.path, 0, 2 * road.half_width) for road in family]) for family in families]
    asphalt = np.maximum.reduce(lanes)
    surface.cover(asphalt, material, rng)
    surface.paved |= asphalt > 0.5
    _wear(surface, roads, asphalt, rng)
    if surface.scale > 1.2:
        _mark_roads(surface, families, lanes, rng)


def _wear(surface: Surface, roads: list[Road], asphalt: np.ndarray, rng: np.random.Generator) -> None:
    """Darker wheel tracks along every lane."""
    if surface.scale < 1.5:
        return
    tracks = [
        ribbon(road.path, side * (lane + 0.5) * LANE_M, 1.9)
        for road in roads
        for lane in range(road.lanes)
        for side in (-1, 1)
    ]
    surface.mark(surface.mask(tracks) * asphalt, (70.0, 70.0, 72.0), float(rng.uniform(0.08, 0.22)))


def _mark_roads(
    surface: Surface, families: list[list[Road]], lanes: list[np.ndarray], rng: np.random.Generator
) -> None:
    strength = float(rng.uniform(0.45, 0.85))
    total = np.zeros(surface.shape, np.float32)
    for index, family in enumerate(families):
        polygons = [polygon for road in family for polygon in markings(road)]
        for road in family:
            polygons += crosswalks(road, rng, rng.uniform(45, 110)) if road.sidewalk else []
            polygons += arrows(road, rng) if road.lanes > 1 else []
        mask = surface.mask(polygons)
        for other, lane in enumerate(lanes):
            mask = mask if other == index else mask * (1 - lane)
        np.maximum(total, mask, out=total)
    surface.mark(total, WHITE, strength)
