"""How the bands and values of a raster become RGB, as far as it does not follow from the file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelRules:
    """How the bands of a raster become RGB. bands: numbers of those to show as red, green and blue, from 1 (None: those
    that say so, else the first three, else the first). value_range: what becomes 0 and 255 (None: the whole range of 8
    and 16 bits; other types need it). What is no data or transparent becomes black.
    """

    bands: tuple[int, int, int] | None = None
    value_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.bands is not None and min(self.bands) < 1:
            raise ValueError(f"expected band numbers from 1, got {self.bands}; change --bands")
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ValueError(f"expected a lower and a higher value, got {self.value_range}; change --value-range")
