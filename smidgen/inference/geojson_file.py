"""predictions.geojson: detections of georeferenced images as polygons in longitude and latitude (RFC 7946)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from smidgen.inference.georeference import Georeference, UnplacedError, read_georeference, require_rasterio
from smidgen.inference.predictions_file import prediction_record
from smidgen.structures import Detections

_DECIMALS = 8  # a millimeter


class GeoJsonWriter:
    """Adds the detections of images to an open FeatureCollection. without_place: images that are not georeferenced, or
    of which a detection has no longitude and latitude.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._features = 0
        self.without_place: list[str] = []

    def add(self, detections: Detections) -> None:
        """Append one image's detections, read its place from its file."""
        place = read_georeference(detections.file)
        try:
            placed = None if place is None else features(detections, place)
        except UnplacedError:
            placed = None
        if placed is None:
            self.without_place.append(detections.file)
            return
        for feature in placed:
            self._stream.write((",\n" if self._features else "\n") + json.dumps(feature))
            self._features += 1


@contextmanager
def geojson_file(path: Path) -> Iterator[GeoJsonWriter]:
    """Open `path` for streaming; it appears (or is replaced) only when the block ends without an error.

    Raises ValueError without rasterio.
    """
    require_rasterio()
    partial = path.with_name(f".partial-{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("w", encoding="ascii") as stream:
            stream.write('{"type": "FeatureCollection", "features": [')
            yield GeoJsonWriter(stream)
            stream.write("\n]}\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def features(detections: Detections, place: Georeference) -> list[dict[str, Any]]:
    """One polygon per detection, with what predictions.json says of it and the image's coordinate system. Raises
    UnplacedError.
    """
    corners = place.corners_lonlat(detections.boxes_xyxy.detach().cpu().double().numpy())
    rings = np.round(np.concatenate([corners, corners[:, :1]], axis=1), _DECIMALS).tolist()
    record = prediction_record(detections)
    return [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"file": record["file"], "crs": place.crs, **entry},
        }
        for ring, entry in zip(rings, record["detections"], strict=True)
    ]
