"""One labeled scene: a scenery, a sun, a ground resolution, objects on it, and the camera that sees it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from smidgen.data.synthetic.camera import photograph
from smidgen.data.synthetic.config import MAX_COVERED_SHARE, SCENERY_CLASSES, SceneConfig
from smidgen.data.synthetic.light import Light, apply_light, cast_shadows
from smidgen.data.synthetic.open_land import fields, plaza
from smidgen.data.synthetic.placement import NOMINAL_SIDE_M, SIZE_TOLERANCE, Placed, place_objects
from smidgen.data.synthetic.shores import beach, harbor
from smidgen.data.synthetic.streets import parking, streets
from smidgen.data.synthetic.surface import Surface

PAINTERS: dict[str, Callable[[Surface, np.random.Generator, float], None]] = {
    "streets": streets,
    "parking": parking,
    "fields": fields,
    "harbor": harbor,
    "beach": beach,
    "plaza": plaza,
}


@dataclass(frozen=True, slots=True)
class Setting:
    """What is decided before anything is drawn. scale: pixels per meter. weights: classes that fit the size range."""

    scenery: str
    light: Light
    scale: float
    weights: dict[str, float]
    count: int


def render_scene(
    config: SceneConfig, index: int
) -> tuple[UInt8[np.ndarray, "H W 3"], Float[np.ndarray, "N 4"], Int[np.ndarray, " N"]]:
    """RGB pixels, boxes (xyxy in pixels, clipped to the image) and labels (indices into config.classes).

    Depends on (config, index) only. Boxes are tight around the visible object, without its shadow or wake, and exact to
    the subpixel at which the object was rendered (1/16 to 1/2 px).
    """
    setting, ground, objects, camera = (np.random.default_rng((config.seed, index, stream)) for stream in range(4))
    surface, placed = draw_scene(config, draw_setting(config, setting), ground, objects)
    shadow = cast_shadows(surface.height, surface.light, surface.scale)
    image = photograph(apply_light(surface.albedo, shadow, surface.light), config, camera)
    boxes = np.array(placed.boxes, np.float64).reshape(-1, 4)
    return image, boxes, np.array([config.classes.index(name) for name in placed.names], np.int64)


def draw_scene(
    config: SceneConfig, setting: Setting, ground: np.random.Generator, objects: np.random.Generator
) -> tuple[Surface, Placed]:
    """The scene before light and camera: what the ground looks like, and where the objects are."""
    surface = Surface.blank(config.size_wh, setting.scale, setting.light)
    PAINTERS[setting.scenery](surface, ground, config.distractors)
    return surface, place_objects(surface, setting.weights, setting.count, config.side_px, objects)


def draw_setting(config: SceneConfig, rng: np.random.Generator) -> Setting:
    """Scenery, sun, count, and a ground resolution at which one of the scenery's classes has a log-uniform size."""
    scenery = str(rng.choice(config.usable_sceneries))
    azimuth, elevation, cloudiness = (
        float(rng.uniform(*span))
        for span in (config.sun_azimuth_degrees, config.sun_elevation_degrees, config.cloudiness)
    )
    count = int(rng.integers(config.objects[0], config.objects[1] + 1))
    weights = {name: share for name, share in SCENERY_CLASSES[scenery].items() if name in config.classes}
    shares = np.array(list(weights.values()))
    anchor = str(rng.choice(list(weights), p=shares / shares.sum()))
    side = _anchor_side(config, count, rng)
    scale = side / NOMINAL_SIDE_M[anchor]
    fitting = {name: share for name, share in weights.items() if _fits(NOMINAL_SIDE_M[name] * scale, config.side_px)}
    return Setting(scenery, Light.of(azimuth, elevation, cloudiness), scale, fitting, count)


def _anchor_side(config: SceneConfig, count: int, rng: np.random.Generator) -> float:
    """Log-uniform in the range, as far as this many objects have room in the image."""
    low, high = config.side_px
    width, height = config.size_wh
    roomy = math.sqrt(MAX_COVERED_SHARE * width * height / max(count, 1))
    low, high = low * 1.05, max(low * 1.06, min(high * 0.95, roomy))
    return low * (high / low) ** float(rng.random())


def _fits(side: float, side_px: tuple[float, float]) -> bool:
    slack = math.exp(SIZE_TOLERANCE / 2)
    return side_px[0] / slack <= side <= side_px[1] * slack
