"""GeoJSON of detections: a polygon for each box, in pixels or on the map.

Butler et al., "The GeoJSON Format", RFC 7946, 2016. The RFC knows longitude and latitude only (WGS 84); coordinates of
another reference system are written with the `crs` member of the 2008 specification, which GDAL and QGIS read. Outlines
run counterclockwise, as the RFC asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from smidgen.structures.classes import Classes
from smidgen.structures.detections import Detections
from smidgen.structures.interchange.coco_results import corners
from smidgen.structures.interchange.sorted_detections import column, labels_of, size_of_image, sorted_detections

Affine = Sequence[float]
"""(a, b, c, d, e, f, ...): x = a column + b row + c, y = d column + e row + f; rasterio's Affine is one."""
Project = Callable[[list[float], list[float]], Sequence[Sequence[float]]]
"""x and y of the image's reference system to longitudes and latitudes, as rasterio.warp.transform does."""

PIXELS: tuple[float, ...] = (1, 0, 0, 0, 1, 0)
DECIMALS = 9  # of a degree: a tenth of a millimeter
_LONGITUDE_LATITUDE = frozenset({"EPSG:4326", "OGC:CRS84"})


def feature_collection(
    detections: Detections, transform: Affine | None = None, crs: str | None = None, project: Project | None = None
) -> dict[str, Any]:
    """A FeatureCollection, best detection first; its member "image" holds the file and its size in pixels.

    transform: from pixels to the image's reference system `crs`, such as "EPSG:32632"; None = pixels, y down. project:
    from there to longitude and latitude, so that every reader of GeoJSON puts the boxes where they are.
    Properties: score, category, category_id and "bbox", [x, y, w, h] in pixels. Raises ValueError for a `crs` or
    `project` without a transform.
    """
    if transform is None and (crs or project):
        raise ValueError(f"expected a transform from pixels to {crs or 'the map'}, got none; pass the image's")
    outlines = _outlines(detections, PIXELS if transform is None else transform, project)
    features = [
        _feature(outline, _properties(result, label, detections))
        for outline, result, label in zip(outlines, detections.to_coco(), detections.labels.tolist(), strict=True)
    ]
    height, width = detections.image_hw
    named = {} if transform is None or project or crs is None or crs in _LONGITUDE_LATITUDE else _named(crs)
    image = {"file": detections.file, "id": detections.image_id, "width": width, "height": height}
    return {"type": "FeatureCollection", **named, "image": image, "features": features}


def from_feature_collection(
    document: Mapping[str, Any], classes: Classes, image_hw: tuple[int, int] | None = None
) -> Detections:
    """Detections of what `feature_collection` wrote, of a feature's pixels in "bbox". image_hw: None = as written.

    Raises ValueError for a document without features, features of another program, unknown categories and an unknown
    size of the image.
    """
    if document.get("type") != "FeatureCollection" or "features" not in document:
        raise ValueError(f"expected a GeoJSON FeatureCollection with features, got type {document.get('type')!r}")
    image = document.get("image", {})
    written = (image["height"], image["width"]) if image else None
    rows = [feature.get("properties") or {} for feature in document["features"]]
    return sorted_detections(
        [corners(box) for box in column(rows, "bbox")],
        column(rows, "score"),
        labels_of(column(rows, "category_id"), classes),
        classes,
        size_of_image(image_hw, written),
        image_id=image.get("id", 0),
        file=image.get("file", ""),
    )


def _outlines(detections: Detections, transform: Affine, project: Project | None) -> npt.NDArray[np.float64]:
    """The closed rings of all boxes, D x 5 x 2."""
    x0, y0, x1, y1 = detections.boxes_xyxy.detach().cpu().double().numpy().T
    column = np.stack([x0, x1, x1, x0, x0], axis=-1)
    row = np.stack([y0, y0, y1, y1, y0], axis=-1)
    a, b, c, d, e, f = list(transform)[:6]
    x, y = a * column + b * row + c, d * column + e * row + f
    if project is not None:
        x, y = (np.asarray(part).reshape(x.shape) for part in project(x.ravel().tolist(), y.ravel().tolist())[:2])
    rings = np.stack([x, y], axis=-1)
    # The corners run counterclockwise where y points up and the transform does not mirror.
    return np.round(rings if a * e - b * d > 0 else rings[:, ::-1], DECIMALS)


def _feature(outline: npt.NDArray[np.float64], properties: dict[str, Any]) -> dict[str, Any]:
    geometry = {"type": "Polygon", "coordinates": [outline.tolist()]}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _properties(result: dict[str, Any], label: int, detections: Detections) -> dict[str, Any]:
    name = detections.class_names[label] if detections.class_names else str(label)
    return {key: result[key] for key in ("score", "category_id", "bbox")} | {"category": name}


def _named(crs: str) -> dict[str, Any]:
    authority, _, code = crs.partition(":")
    name = f"urn:ogc:def:crs:{authority}::{code}" if code and "[" not in crs else crs
    return {"crs": {"type": "name", "properties": {"name": name}}}
