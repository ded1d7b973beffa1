"""What a set of generated scenes is like: sizes, counts, classes, sun and camera, as one frozen value."""

from __future__ import annotations

import math
from dataclasses import dataclass

CLASS_NAMES: tuple[str, ...] = ("car", "van", "truck", "bus", "person", "boat")
CATEGORY_IDS: dict[str, int] = {name: index + 1 for index, name in enumerate(CLASS_NAMES)}

# How often each class is drawn where a scenery shows it.
SCENERY_CLASSES: dict[str, dict[str, float]] = {
    "streets": {"car": 0.62, "van": 0.12, "truck": 0.06, "bus": 0.05, "person": 0.15},
    "parking": {"car": 0.74, "van": 0.13, "truck": 0.04, "bus": 0.02, "person": 0.07},
    "fields": {"car": 0.42, "van": 0.14, "truck": 0.22, "bus": 0.06, "person": 0.16},
    "harbor": {"boat": 0.64, "car": 0.18, "van": 0.04, "truck": 0.04, "bus": 0.01, "person": 0.09},
    "beach": {"person": 0.74, "boat": 0.26},
    "plaza": {"person": 0.84, "car": 0.09, "van": 0.07},
}
SCENERIES: tuple[str, ...] = tuple(SCENERY_CLASSES)

# Objects may cover this share of an image at their smallest size; beyond it the count cannot be promised.
MAX_COVERED_SHARE = 0.12


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """Ranges are inclusive (low, high) and drawn anew for every scene.

    Changes what is labeled:
    size_wh: image size in pixels.
    side_px: size of an object = square root of its box's area, in pixels. Each scene draws one ground resolution such
    that a class of the scene is log-uniform in this range; the others keep their real proportion to it, and those that
    would leave the range do not appear.
    objects: labeled objects per image.
    classes: subset of CLASS_NAMES; labels count in this order. sceneries: subset of SCENERIES.
    seed: together with the index of a scene it decides everything.

    Changes how it looks:
    sun_azimuth_degrees: where the light comes from, 0 = right, 90 = below. sun_elevation_degrees: time of day; low sun
    casts long shadows. cloudiness: 0 = sharp shadows, 1 = none. haze: share of airlight. vignetting: light lost in the
    corners. blur_px: standard deviation of the point spread. noise: standard deviation in 8-bit levels. jpeg_quality:
    of written .jpg files. distractors: how many rocks, bins, crates, patches ...; 1 is ordinary, 0 none.
    """

    size_wh: tuple[int, int] = (640, 640)
    side_px: tuple[float, float] = (4.0, 48.0)
    objects: tuple[int, int] = (10, 60)
    classes: tuple[str, ...] = CLASS_NAMES
    sceneries: tuple[str, ...] = SCENERIES
    seed: int = 0
    sun_azimuth_degrees: tuple[float, float] = (0.0, 360.0)
    sun_elevation_degrees: tuple[float, float] = (28.0, 70.0)
    cloudiness: tuple[float, float] = (0.0, 0.9)
    haze: tuple[float, float] = (0.0, 0.22)
    vignetting: tuple[float, float] = (0.0, 0.25)
    blur_px: tuple[float, float] = (0.3, 0.75)
    noise: tuple[float, float] = (1.0, 4.5)
    jpeg_quality: tuple[int, int] = (78, 95)
    distractors: float = 1.0

    def __post_init__(self) -> None:
        _require_members("classes", self.classes, CLASS_NAMES)
        _require_members("sceneries", self.sceneries, SCENERIES)
        if min(self.size_wh) < 32:
            raise ValueError(f"expected scenes of at least 32 x 32 px, got size_wh={self.size_wh}; enlarge size_wh")
        for name, bounds in _BOUNDS.items():
            _require_range(name, getattr(self, name), *bounds)
        self._require_room()
        if not self.usable_sceneries:
            raise ValueError(
                f"expected a scenery that shows one of the classes {self.classes}, got sceneries={self.sceneries}; "
                "boats need harbor or beach, vehicles anything else: change sceneries or classes"
            )
        if not 0 <= self.distractors <= 10:
            raise ValueError(f"expected distractors in 0..10, got {self.distractors}; change distractors")

    def _require_room(self) -> None:
        low, high = self.side_px
        if high < 1.2 * low:
            raise ValueError(
                f"expected a side range whose ends differ by 20 % or more, got {self.side_px}; widen side_px"
            )
        width, height = self.size_wh
        most = int(MAX_COVERED_SHARE * width * height / low**2)
        if self.objects[1] > most:
            raise ValueError(
                f"expected at most {most} objects of {low:g} px in {width} x {height} px, got objects={self.objects}; "
                "lower objects or side_px, or enlarge size_wh"
            )

    @property
    def usable_sceneries(self) -> tuple[str, ...]:
        """The sceneries that show at least one of the classes."""
        return tuple(name for name in self.sceneries if any(kind in SCENERY_CLASSES[name] for kind in self.classes))


_BOUNDS: dict[str, tuple[float, float]] = {
    "side_px": (2, 64),
    "objects": (0, 1500),
    "sun_azimuth_degrees": (-360, 720),
    "sun_elevation_degrees": (10, 90),
    "cloudiness": (0, 1),
    "haze": (0, 1),
    "vignetting": (0, 1),
    "blur_px": (0, 5),
    "noise": (0, 60),
    "jpeg_quality": (1, 100),
}


def _require_members(name: str, chosen: tuple[str, ...], known: tuple[str, ...]) -> None:
    if not chosen or len(set(chosen)) != len(chosen) or not set(chosen) <= set(known):
        raise ValueError(f"expected {name} to be distinct names out of {known}, got {chosen}; change {name}")


def _require_range(name: str, value: tuple[float, float], least: float, most: float) -> None:
    low, high = value
    if not (math.isfinite(low) and math.isfinite(high) and least <= low <= high <= most):
        raise ValueError(
            f"expected {name} as (low, high) with {least} <= low <= high <= {most}, got {value}; change {name}"
        )
