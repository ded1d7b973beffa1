"""Which objects stand where: spots first (lanes, slots, berths, sidewalks), then free ground until the count is met."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from smidgen.data.synthetic.boats import HULLS, boat_sprites, wake_sprite
from smidgen.data.synthetic.people import SHIRTS, person_sprites
from smidgen.data.synthetic.sprite import Sprite
from smidgen.data.synthetic.stamp import Patch, Pose, outline_px, render, stamp_scenery
from smidgen.data.synthetic.surface import Surface
from smidgen.data.synthetic.vehicles import PAINTS, vehicle_sprites

SPOTS = {
    "car": ("slot", "lane"),
    "van": ("slot", "lane"),
    "truck": ("lane",),
    "bus": ("lane",),
    "person": ("walk",),
    "boat": ("berth", "sea"),
}
# Typical square root of a box's area in meters, over headings and models; it ties the ground resolution to pixels.
NOMINAL_SIDE_M = {"car": 3.7, "van": 4.3, "truck": 6.4, "bus": 7.6, "person": 0.72, "boat": 5.6}
GROUND_M2 = {"car": 8.0, "van": 10.5, "truck": 22.0, "bus": 29.0, "person": 0.35, "boat": 18.0}

LEAST_VISIBLE = 0.3  # objects that show less of their area inside the image are not drawn
MOST_OVERLAP = 0.3  # IoU of boxes; the objects themselves never share a pixel
LEAST_CONTRAST = 26.0  # 8-bit levels between an object's color and the ground's
SIZE_TOLERANCE = 0.32  # |log| of the factor by which an object may be scaled to stay in the configured range
TRIES_PER_OBJECT = 40
PATIENCE = 300  # misses in a row after which a kind of place counts as full
SECOND_KIND_FIRST = 0.3  # how often the street fills before the lot, and the open sea before the berths


Paint = tuple[float, float, float]


@dataclass(slots=True, eq=False)
class Placed:
    """The labeled objects so far; occupied: pixels that any of them touches."""

    occupied: Bool[np.ndarray, "H W"]
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


def sprites_of(name: str) -> tuple[Sprite, ...]:
    """The models of a class."""
    return person_sprites() if name == "person" else boat_sprites() if name == "boat" else vehicle_sprites(name)


def paints_of(name: str) -> tuple[tuple[int, int, int], ...]:
    """The colors that a class comes in; frequent ones stand several times."""
    return SHIRTS if name == "person" else HULLS if name == "boat" else PAINTS[name]


def place_objects(
    surface: Surface, weights: dict[str, float], count: int, side_px: tuple[float, float], rng: np.random.Generator
) -> Placed:
    """Draw `count` objects onto the surface, classes in proportion to their weights, the bulkiest first.

    Fewer come out only where nothing more fits.
    """
    placed = Placed(np.zeros(surface.shape, bool))
    order = sorted(weights, key=lambda name: -GROUND_M2[name])
    shares = np.array([weights[name] for name in order])
    wanted = dict(zip(order, rng.multinomial(count, shares / shares.sum()).tolist(), strict=True))
    owed = 0
    for name in order:
        target = len(placed.boxes) + wanted[name] + owed
        _place_class(surface, placed, name, target, side_px, rng)
        owed = target - len(placed.boxes)
    for name in order if owed else ():
        _place_class(surface, placed, name, count, side_px, rng)
    return placed


def _place_class(
    surface: Surface, placed: Placed, name: str, target: int, side_px: tuple[float, float], rng: np.random.Generator
) -> None:
    for kind, poses in _candidates(surface, placed, name, target, rng):
        misses = 0
        for x, y, heading in poses.tolist():
            if len(placed.boxes) >= target:
                return
            misses = 0 if _try(surface, placed, name, Pose(x, y, heading), kind, side_px, rng) else misses + 1
            if misses > PATIENCE:
                break


def _candidates(
    surface: Surface, placed: Placed, name: str, target: int, rng: np.random.Generator
) -> Iterator[tuple[str, Float[np.ndarray, "N 3"]]]:
    """Poses for a class, the most natural first: its spots, gaps between them, then free ground of its kind."""
    spots = _shuffled_spots(surface, name, rng)
    yield from spots
    lanes = [poses for kind, poses in spots if kind == "lane"]
    yield "lane", _between(lanes, TRIES_PER_OBJECT * (target - len(placed.boxes)) // 4, rng)
    for medium in _media(surface, name):
        free = np.flatnonzero(medium & ~surface.blocked & ~placed.occupied)
        if len(free) and len(placed.boxes) < target:
            pixels = free[rng.integers(0, len(free), TRIES_PER_OBJECT * (target - len(placed.boxes)))]
            yield (
                "free",
                _free_poses(surface, pixels, [poses for kind, poses in spots if kind in ("lane", "slot")], rng),
            )


def _between(lanes: list[Float[np.ndarray, "N 3"]], count: int, rng: np.random.Generator) -> Float[np.ndarray, "M 3"]:
    """Poses in the gaps of the lanes: known ones, moved along their heading."""
    known = np.concatenate([*lanes, np.empty((0, 3))])
    if not len(known) or count <= 0:
        return np.empty((0, 3))
    chosen = known[rng.integers(0, len(known), count)]
    along = rng.uniform(-10, 10, count)
    return chosen + np.column_stack([along * np.cos(chosen[:, 2]), along * np.sin(chosen[:, 2]), np.zeros(count)])


def _free_poses(
    surface: Surface, pixels: Int[np.ndarray, " N"], spots: list[Float[np.ndarray, "M 3"]], rng: np.random.Generator
) -> Float[np.ndarray, "N 3"]:
    """Poses at these pixels (flat indices); vehicles turn as those at the nearest spot do."""
    rows, columns = np.divmod(pixels, surface.shape[1])
    places = (np.column_stack([columns, rows]) + rng.random((len(pixels), 2))) / surface.scale
    headings = rng.uniform(0, 2 * math.pi, len(pixels))
    if sum(map(len, spots)):
        known = np.concatenate(spots)
        headings = known[cKDTree(known[:, :2]).query(places)[1], 2] + rng.normal(0, 0.03, len(pixels))
    return np.column_stack([places, headings])


def _shuffled_spots(
    surface: Surface, name: str, rng: np.random.Generator
) -> list[tuple[str, Float[np.ndarray, "N 3"]]]:
    """Spots of a class in random order, the kinds in an order drawn once per scene; only the last kind may fill up."""
    kinds = [kind for kind in SPOTS[name] if kind in surface.spots]
    kinds = kinds[::-1] if rng.random() < SECOND_KIND_FIRST else kinds
    shuffled = [(kind, _in_some_order(np.concatenate(surface.spots[kind]), rng)) for kind in kinds]
    return [(kind, poses[: math.ceil(len(poses) * rng.uniform(0.5, 0.9))]) for kind, poses in shuffled[:-1]] + shuffled[
        -1:
    ]


def _in_some_order(poses: Float[np.ndarray, "N 3"], rng: np.random.Generator) -> Float[np.ndarray, "N 3"]:
    """Anywhere, or in half the scenes rather close to one point, as lots and quays fill up near an entrance."""
    if not len(poses) or rng.random() < 0.5:
        return rng.permutation(poses)
    focus = poses[int(rng.integers(len(poses))), :2]
    nearness = np.hypot(*(poses[:, :2] - focus).T) * rng.uniform(0.25, 1.75, len(poses))
    return np.asarray(poses[np.argsort(nearness)])


def _media(surface: Surface, name: str) -> list[Bool[np.ndarray, "H W"]]:
    if name == "boat":
        return [surface.water]
    land = ~surface.water
    return [land] if name == "person" else [surface.paved & land, land]


def _try(
    surface: Surface,
    placed: Placed,
    name: str,
    pose: Pose,
    kind: str,
    side_px: tuple[float, float],
    rng: np.random.Generator,
) -> bool:
    """Place one object at a pose if it fits there."""
    if _is_taken(surface, placed, pose):
        return False
    sprites = sprites_of(name)
    sprite = sprites[int(rng.integers(len(sprites)))]
    grow = 0.94 + 0.12 * float(rng.random())
    pose = Pose(pose.x, pose.y, pose.heading, (grow, grow * (0.97 + 0.06 * float(rng.random()))))
    fitted = fit_pose(sprite, pose, surface.scale, side_px)
    if fitted is None or _is_obstructed(surface, placed, name, outline_px(sprite, fitted, surface.scale)):
        return False
    paints = _draw_paints(name, rng)
    patch = render(sprite, fitted, surface.scale, surface.light, paints[0])
    if patch is None or not _fits(surface, placed, patch, name, side_px):
        return False
    if name == "boat" and kind in ("sea", "free") and rng.random() < 0.6:
        _leave_wake(surface, placed, sprite, fitted)
    _add(surface, placed, name, _contrasting(surface, sprite, fitted, patch, paints))
    return True


def _is_taken(surface: Surface, placed: Placed, pose: Pose) -> bool:
    """The cheapest test: does something stand at the center already?"""
    row, column = int(pose.y * surface.scale), int(pose.x * surface.scale)
    if not (0 <= row < surface.shape[0] and 0 <= column < surface.shape[1]):
        return False
    return bool(placed.occupied[row, column] or surface.blocked[row, column])


def _is_obstructed(surface: Surface, placed: Placed, name: str, points: Float[np.ndarray, "N 2"]) -> bool:
    """A cheap test before rendering: is most of the outline out of sight, or any of its points on wrong ground?"""
    columns, rows = np.concatenate([points.mean(0, keepdims=True), points[::4]]).astype(int).T
    height, width = surface.shape
    inside = (rows >= 0) & (columns >= 0) & (rows < height) & (columns < width)
    rows, columns = rows[inside], columns[inside]
    if inside.sum() < LEAST_VISIBLE * len(inside):
        return True
    wrong = surface.water[rows, columns] != (name == "boat")
    return bool((wrong | placed.occupied[rows, columns] | surface.blocked[rows, columns]).any())


def fit_pose(sprite: Sprite, pose: Pose, scale: float, side_px: tuple[float, float]) -> Pose | None:
    """The pose scaled such that its box's side lies in the range; None where that takes more than SIZE_TOLERANCE."""
    width, height = np.ptp(outline_px(sprite, pose, scale), axis=0)
    side = math.sqrt(width * height)
    factor = min(max(side, side_px[0] * 1.04), side_px[1] * 0.96) / side
    if abs(math.log(factor)) > SIZE_TOLERANCE:
        return None
    return Pose(pose.x, pose.y, pose.heading, (pose.stretch[0] * factor, pose.stretch[1] * factor))


def _fits(surface: Surface, placed: Placed, patch: Patch, name: str, side_px: tuple[float, float]) -> bool:
    """Visible enough, of the right size as seen, on free ground of the right kind, and apart from the others."""
    image, inside = patch.clipped(surface.shape)
    covered = patch.coverage[inside] > 0
    if not covered.any() or patch.coverage[inside].sum() < LEAST_VISIBLE * patch.coverage.sum():
        return False
    box = visible_box(patch, surface.shape)
    if not side_px[0] <= math.sqrt((box[2] - box[0]) * (box[3] - box[1])) <= side_px[1]:
        return False
    water = surface.water[image][covered]
    if (placed.occupied[image] | surface.blocked[image])[covered].any() or not (
        water.all() if name == "boat" else not water.any()
    ):
        return False
    return not placed.boxes or float(_overlaps(box, np.array(placed.boxes)).max()) <= MOST_OVERLAP


def visible_box(patch: Patch, shape: tuple[int, int]) -> tuple[float, float, float, float]:
    """Tight box of what shows inside an image of this (height, width).

    An object cut by the border may be narrower inside than its whole box: the covered pixels decide there.
    """
    x0, y0, x1, y1 = patch.box_xyxy
    if x0 >= 0 and y0 >= 0 and x1 <= shape[1] and y1 <= shape[0]:
        return patch.box_xyxy
    image, inside = patch.clipped(shape)
    covered = patch.coverage[inside] > 0
    rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
    top, left = image[0].start, image[1].start
    return (
        max(x0, float(left + columns[0])),
        max(y0, float(top + rows[0])),
        min(x1, float(left + columns[-1] + 1)),
        min(y1, float(top + rows[-1] + 1)),
    )


def _overlaps(box: tuple[float, float, float, float], boxes: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, " N"]:
    """IoU of one box with many."""
    low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return np.asarray(shared / (areas + (box[2] - box[0]) * (box[3] - box[1]) - shared))


def _contrasting(surface: Surface, sprite: Sprite, pose: Pose, patch: Patch, paints: list[Paint]) -> Patch:
    """The patch, repainted where its color is the ground's: nobody could label an object that cannot be seen."""
    best = patch
    for paint in paints[1:]:
        if _contrast(surface, best) >= LEAST_CONTRAST:
            break
        other = render(sprite, pose, surface.scale, surface.light, paint)
        best = other if other is not None and _contrast(surface, other) > _contrast(surface, best) else best
    return best


def _contrast(surface: Surface, patch: Patch) -> float:
    """Largest difference over the channels between the object's mean color and the ground's."""
    image, inside = patch.clipped(surface.shape)
    coverage = patch.coverage[inside]
    ground = (surface.albedo[image] * coverage[..., None]).sum((0, 1))
    return float(np.abs(patch.premultiplied[inside].sum((0, 1)) - ground).max() / coverage.sum())


def _draw_paints(name: str, rng: np.random.Generator) -> list[Paint]:
    """Colors to try in turn, each with its own dust and wear; white and black come last.

    All are drawn at once, so that what the light does to the first leaves the scene's other random numbers alone.
    """
    choices = paints_of(name)
    chosen = np.array([*(choices[index] for index in rng.integers(0, len(choices), 4)), (238, 238, 236), (34, 34, 36)])
    worn = chosen * rng.uniform(0.86, 1.04, (len(chosen), 1)) + rng.normal(0, 3, chosen.shape)
    return [(red, green, blue) for red, green, blue in worn.clip(0, 255).tolist()]


def _leave_wake(surface: Surface, placed: Placed, sprite: Sprite, pose: Pose) -> None:
    length = float(np.ptp(sprite.outline[:, 0])) * pose.stretch[0]
    reach = 4.2 * length
    back = reach / 2 - length / 2
    x, y = pose.x - math.cos(pose.heading) * back, pose.y - math.sin(pose.heading) * back
    row, column = int(y * surface.scale), int(x * surface.scale)
    inside = 0 <= row < surface.shape[0] and 0 <= column < surface.shape[1]
    if inside and (not surface.water[row, column] or placed.occupied[row, column]):
        return
    wake = Pose(x, y, pose.heading, (reach, reach))
    where = surface.water & ~placed.occupied
    stamp_scenery(surface, wake_sprite(), wake, (0, 0, 0), blocks=False, tall=0.0, where=where)


def _add(surface: Surface, placed: Placed, name: str, patch: Patch) -> None:
    image, inside = patch.clipped(surface.shape)
    coverage = patch.coverage[inside]
    albedo, height = surface.albedo[image], surface.height[image]
    albedo += patch.premultiplied[inside] - albedo * coverage[..., None]
    np.maximum(height, patch.height[inside] + height * (coverage > 0.5), out=height)
    placed.occupied[image] |= coverage > 0
    placed.boxes.append(visible_box(patch, surface.shape))
    placed.names.append(name)
