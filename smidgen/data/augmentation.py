"""What may happen to a training image, as plain values; the parts that do it stand in the modules beside this one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Settings of the training pipeline; the default flips horizontally and resizes as in evaluation.

    Probabilities are per image in [0, 1]; sides are pixels. All fields change results. The order of the pipeline:
    copy-paste, flips and turns, then mosaic or (crop and) resize, then color.
    """

    # --- size of the network input ---
    short_sides: tuple[int, ...] = ()
    """Short sides to draw from; empty = the model's `preprocessing.short_side`."""
    long_side: int | None = None
    """The long side is never resized beyond this; None = the model's `preprocessing.long_side`."""
    shapes_per: Literal["image", "batch"] = "image"
    """Who draws what decides an image's shape (short side, quarter turns, window, mosaic): each image for itself, as in
    DETR, or one draw for all images of a batch, which then hardly needs padding."""

    # --- flips and turns ---
    horizontal_flip: float = 0.5
    vertical_flip: float = 0.0
    """Sensible where images have no up and down: views from the air, circuit boards."""
    quarter_turns: float = 0.0
    """Probability of a turn by 90, 180 or 270 degrees, each as likely."""

    # --- crops ---
    crop: float = 0.0
    """Probability of: resize the short side to one of `crop_short_sides`, cut out a window, then resize as usual."""
    crop_short_sides: tuple[int, ...] = (400, 500, 600)
    crop_sides: tuple[int, int] = (384, 600)
    """Smallest and largest side of the window in pixels after that first resize (at most the image)."""
    crop_around_objects: float = 0.0
    """Share of windows that are placed to contain a randomly chosen object whole; the others lie anywhere."""
    visibility: float = 0.0
    """A box of which a window leaves less than this share of its area becomes an ignore region; 0 keeps every box."""

    # --- color (factors are drawn from [1 - x, 1 + x]) ---
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    """Shift of the hue, drawn from [-x, x]; 0.5 is half the color circle."""

    # --- combinations of images ---
    mosaic: float = 0.0
    """Probability of a 2 x 2 mosaic of crops of four images, every one at its usual scale or larger."""
    copy_paste: float = 0.0
    """Probability that small objects are pasted, with the pixels around them, where no object is."""
    copy_paste_objects: int = 8
    """Most objects pasted into one image."""
    copy_paste_largest_px: float = 48.0
    """Objects whose sqrt(width * height) is at most this, in pixels of the image on disk, are pasted."""
    copy_paste_context: float = 0.25
    """Pixels taken along on every side of a pasted object, as a share of its longer side (at least 2 px)."""
    copy_paste_difference: float = 0.08
    """Most by which the pixels around a pasted object may differ from those they cover, on average; 1 = full range."""
    copy_paste_from_others: float = 0.5
    """Share of pasting images that take their objects from another image instead of from themselves."""
    combine_epochs: int | None = None
    """Mosaic and copy-paste stop after this many epochs; None = never."""

    # --- order ---
    group_by_aspect: bool = True
    """Batch images of similar shape (within a shuffled neighborhood), so that batches are not mostly padding."""

    def __post_init__(self) -> None:
        for name in _PROBABILITIES:
            _require(0 <= getattr(self, name) <= 1, name, "a number in [0, 1]", getattr(self, name))
        for name in ("brightness", "contrast", "saturation", "hue", "copy_paste_context"):
            _require(getattr(self, name) >= 0, name, "a number >= 0", getattr(self, name))
        _require(self.hue <= 0.5, "hue", "at most 0.5", self.hue)
        _require(all(side >= 1 for side in self.short_sides), "short_sides", "sides >= 1 px", self.short_sides)
        _require(self.long_side is None or self.long_side >= 1, "long_side", "at least 1 px", self.long_side)
        _require(_sides(self.crop_short_sides), "crop_short_sides", "one or more sides >= 1 px", self.crop_short_sides)
        ordered = _sides(self.crop_sides) and self.crop_sides[0] <= self.crop_sides[1]
        _require(ordered, "crop_sides", "(smallest, largest) in px", self.crop_sides)
        _require(self.copy_paste_objects >= 1, "copy_paste_objects", "at least 1", self.copy_paste_objects)

    @staticmethod
    def none() -> Augmentation:
        """Training images exactly as in evaluation."""
        return Augmentation(horizontal_flip=0.0)

    @staticmethod
    def detr() -> Augmentation:
        """The multi-scale recipe of DETR (Carion et al., 2020), for inputs of 800 px; DINO and LSQ-DETR use it, too."""
        return Augmentation(short_sides=tuple(range(480, 801, 32)), long_side=1333, crop=0.5)

    @staticmethod
    def small(short_sides: Iterable[int] = range(320, 481, 32), *, aerial: bool = False) -> Augmentation:
        """The same recipe for small budgets (320 to 480 px): windows are cut at higher resolution, around objects.

        aerial: images have no up and down, so that vertical flips and quarter turns are allowed.
        """
        sides = tuple(short_sides)
        _require(_sides(sides), "short_sides", "one or more sides >= 1 px", sides)
        smallest, largest = min(sides), max(sides)
        return Augmentation(
            short_sides=sides,
            long_side=largest * 5 // 3,
            shapes_per="batch",
            vertical_flip=0.5 if aerial else 0.0,
            quarter_turns=0.5 if aerial else 0.0,
            crop=0.5,
            crop_short_sides=(largest, largest * 5 // 4, largest * 3 // 2),
            crop_sides=(smallest * 3 // 4, largest),
            crop_around_objects=0.75,
            visibility=0.3,
            brightness=0.2,
            contrast=0.2,
            saturation=0.2,
        )


_PROBABILITIES = (
    "horizontal_flip",
    "vertical_flip",
    "quarter_turns",
    "crop",
    "crop_around_objects",
    "visibility",
    "mosaic",
    "copy_paste",
    "copy_paste_from_others",
    "copy_paste_difference",
)


def _sides(sides: tuple[int, ...]) -> bool:
    return len(sides) > 0 and all(side >= 1 for side in sides)


def _require(condition: bool, name: str, expected: str, value: object) -> None:
    if not condition:
        raise ValueError(f"expected {expected} in augmentation.{name}, got {value!r}")
