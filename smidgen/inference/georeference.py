"""Where the pixels of a raster lie on Earth: its transform and coordinate system, as rasterio reads them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

WGS84 = "EPSG:4326"


class UnplacedError(ValueError):
    """Coordinates that have no longitude and latitude: of a building site's own system, or beside the Earth's disk."""


@dataclass(frozen=True, slots=True)
class Georeference:
    """crs: the coordinate system, as EPSG:n or well-known text. transform: (a, b, c, d, e, f) of
    x = a column + b row + c, y = d column + e row + f in that system.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]

    def corners_lonlat(self, boxes_xyxy: Float[NDArray[np.float64], "n 4"]) -> Float[NDArray[np.float64], "n 4 2"]:
        """Longitude and latitude (WGS 84) of the corners of boxes in pixels, counterclockwise as seen in an image whose
        north is up, from the one at the bottom left. Raises UnplacedError.
        """
        from rasterio.warp import transform

        left, top, right, bottom = boxes_xyxy.T
        columns, rows = np.stack([left, right, right, left], 1), np.stack([bottom, bottom, top, top], 1)
        a, b, c, d, e, f = self.transform
        x, y = a * columns + b * rows + c, d * columns + e * rows + f
        try:
            longitude, latitude = transform(self.crs, WGS84, x.ravel(), y.ravel())
        except Exception as error:  # GDAL's have no public class
            raise UnplacedError(f"expected pixels with a place on Earth: {error}") from error
        return np.stack([longitude, latitude], axis=-1).reshape(-1, 4, 2)


def read_georeference(path: Path | str) -> Georeference | None:
    """Of an image file; None where it has none. Raises ValueError without rasterio."""
    require_rasterio()
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.open(path) as raster:
                return _of(raster)
        except (RasterioError, UnicodeEncodeError):  # no raster, one that prediction has refused already, or a name
            return None  # that is not UTF-8, by which GDAL opens nothing


def require_rasterio() -> None:
    """Raise ValueError where the package is missing."""
    if find_spec("rasterio") is None:
        raise ValueError("geographic coordinates need rasterio; pip install 'smidgen[geo]'")


def _of(raster: Any) -> Georeference | None:
    if raster.crs is None or raster.transform.is_identity:
        return None
    code = raster.crs.to_epsg()
    transform = raster.transform
    return Georeference(
        raster.crs.to_wkt() if code is None else f"EPSG:{code}",
        (transform.a, transform.b, transform.c, transform.d, transform.e, transform.f),
    )
