"""Windows of GeoTIFF, COG, BigTIFF and JPEG 2000 through rasterio (GDAL), with bands, value ranges and no-data shown
by one rule (`PixelRules`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from smidgen.data.image_files import UnreadableImageError
from smidgen.data.windows.pixel_rules import PixelRules
from smidgen.data.windows.window_reader import WindowXYXY

CACHE_BYTES = 256 * 2**20
"""GDAL's cache of decoded blocks: a row of 1024 px tiles over 80,000 px of RGB strips."""


@contextmanager
def open_raster(path: Path, rules: PixelRules) -> Iterator[RasterWindows]:
    """The raster; GDAL keeps at most CACHE_BYTES of all that are open. Raises UnreadableImageError."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    try:
        with _settings(), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            raster = rasterio.open(path)
    except UnicodeEncodeError as error:
        raise UnreadableImageError(path, "GDAL opens names in UTF-8 only; rename the file") from error
    except RasterioError as error:
        raise UnreadableImageError(path, _reason(error)) from error
    with raster:
        yield RasterWindows(path, raster, _shown_bands(path, raster, rules), _scaling(path, raster, rules))


def _reason(error: Exception) -> str:
    """What GDAL said; of a failed read, rasterio's own words only point to it."""
    return str(error.__cause__ or error)


def _settings() -> AbstractContextManager[Any]:
    """GDAL's, for one call. Not for as long as a raster is open: they nest, and rasters are closed in any order."""
    import rasterio

    return rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES)


@dataclass(frozen=True, slots=True)
class Scaling:
    """low becomes 0 and high 255; values beyond are cut."""

    low: float
    high: float

    def apply(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """As uint8; what is not finite becomes 0."""
        if values.dtype == np.uint8 and (self.low, self.high) == (0, 255):
            return values
        shares = (values.astype(np.float32) - self.low) / (self.high - self.low)
        return np.round(np.clip(np.nan_to_num(shares, nan=0.0), 0, 1) * 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class RasterWindows:
    """An open raster. bands: numbers of what is shown as red, green and blue, or of gray or a palette alone."""

    path: Path
    raster: Any
    bands: tuple[int, ...]
    scaling: Scaling

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the raster."""
        return self.raster.height, self.raster.width

    def read(self, window_xyxy: WindowXYXY) -> UInt8[Tensor, "3 h w"] | None:
        """The pixels of a window inside the raster; None where it holds no data at all."""
        from rasterio.windows import Window

        left, top, right, bottom = window_xyxy
        return self._read(window=Window(left, top, right - left, bottom - top))

    def reduced(self, size_hw: tuple[int, int]) -> UInt8[Tensor, "3 h w"]:
        """The whole raster at this size, from its overviews where it has them."""
        from rasterio.enums import Resampling

        palette = _palette(self.raster) is not None
        how = Resampling.nearest if palette else Resampling.average
        pixels = self._read(out_shape=size_hw, resampling=how)
        return torch.zeros((3, *size_hw), dtype=torch.uint8) if pixels is None else pixels

    def _read(self, out_shape: tuple[int, int] | None = None, **how: Any) -> UInt8[Tensor, "3 h w"] | None:
        from rasterio.errors import RasterioError

        try:
            with _settings():
                opacity = self._opacity(out_shape, **how)
                if opacity is not None and not opacity.any():
                    return None
                shape = None if out_shape is None else (len(self.bands), *out_shape)
                pixels = self._shown(self.raster.read(self.bands, out_shape=shape, **how))
        except RasterioError as error:
            raise UnreadableImageError(self.path, _reason(error)) from error
        if opacity is not None:
            pixels = ((pixels * opacity.astype(np.uint16) + 127) // 255).astype(np.uint8)
        return torch.from_numpy(pixels)

    def _opacity(self, out_shape: tuple[int, int] | None, **how: Any) -> NDArray[np.uint8] | None:
        """0 where there is no data, 255 where there is; None where all of it is data."""
        from rasterio.enums import MaskFlags

        if all(MaskFlags.all_valid in flags for flags in self.raster.mask_flag_enums):
            return None
        opacity: NDArray[np.uint8] = self.raster.dataset_mask(out_shape=out_shape, **how)
        return opacity

    def _shown(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        palette = _palette(self.raster)
        if palette is not None and len(self.bands) == 1:
            return np.ascontiguousarray(palette[values[0]].transpose(2, 0, 1))
        pixels = self.scaling.apply(values)
        return np.repeat(pixels, 3, axis=0) if len(pixels) == 1 else pixels


def _shown_bands(path: Path, raster: Any, rules: PixelRules) -> tuple[int, ...]:
    from rasterio.enums import ColorInterp

    if rules.bands is not None:
        if max(rules.bands) > raster.count:
            raise UnreadableImageError(path, f"it has {raster.count} bands, not {rules.bands}; change --bands")
        return rules.bands
    colors = {color: index for index, color in enumerate(raster.colorinterp, start=1)}
    told = [colors.get(color) for color in (ColorInterp.red, ColorInterp.green, ColorInterp.blue)]
    if None not in told:
        return tuple(index for index in told if index is not None)
    return (1, 2, 3) if raster.count >= 3 else (1,)


def _scaling(path: Path, raster: Any, rules: PixelRules) -> Scaling:
    kind = raster.dtypes[0]
    if kind.startswith("complex"):
        raise UnreadableImageError(path, f"its values are {kind}; write their magnitude to another file")
    if rules.value_range is not None:
        return Scaling(*rules.value_range)
    if kind not in ("uint8", "uint16"):
        raise UnreadableImageError(
            path, f"its values are {kind}; say which of them are black and white with --value-range LOW,HIGH"
        )
    bits = raster.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")
    return Scaling(0, 2 ** int(bits or (8 if kind == "uint8" else 16)) - 1)


def _palette(raster: Any) -> NDArray[np.uint8] | None:
    """Color of each value of a raster with a palette, 256 x 3."""
    from rasterio.enums import ColorInterp

    if raster.colorinterp[0] != ColorInterp.palette:
        return None
    table = np.zeros((256, 3), dtype=np.uint8)
    for value, color in raster.colormap(1).items():
        if 0 <= value < 256:
            table[value] = color[:3]
    return table
