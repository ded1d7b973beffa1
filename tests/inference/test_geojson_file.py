"""Detections of georeferenced rasters as polygons in longitude and latitude."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from smidgen.inference import geojson_file, read_georeference
from smidgen.structures import Detections

rasterio = pytest.importorskip("rasterio")


def write(path, **place):
    with rasterio.open(path, "w", driver="GTiff", width=40, height=30, count=1, dtype="uint8", **place) as raster:
        raster.write(np.ones((1, 30, 40), dtype=np.uint8))
    return path


def found_in(path):
    return Detections(
        torch.tensor([[10.0, 5.0, 20.0, 25.0]]),
        torch.tensor([0.5]),
        torch.tensor([0]),
        (30, 40),
        file=str(path),
        class_names=("car",),
        category_ids=(3,),
    )


def test_polygons_are_where_the_raster_says(tmp_path):
    degrees = rasterio.transform.from_origin(7.0, 50.0, 0.001, 0.002)
    path = write(tmp_path / "a.tif", crs="EPSG:4326", transform=degrees)
    with geojson_file(tmp_path / "p.geojson") as writer:
        writer.add(found_in(path))
        writer.add(found_in(path))
    document = json.loads((tmp_path / "p.geojson").read_text())
    assert document["type"] == "FeatureCollection" and len(document["features"]) == 2
    feature = document["features"][0]
    (ring,) = feature["geometry"]["coordinates"]
    expected = [[7.01, 49.95], [7.02, 49.95], [7.02, 49.99], [7.01, 49.99], [7.01, 49.95]]
    assert np.allclose(ring, expected, atol=1e-7)  # counterclockwise, closed
    assert feature["properties"]["category"] == "car" and feature["properties"]["bbox"] == [10.0, 5.0, 10.0, 20.0]


def test_other_systems_are_transformed(tmp_path):
    path = write(tmp_path / "a.tif", crs="EPSG:32633", transform=rasterio.transform.from_origin(500000, 5e6, 0.5, 0.5))
    place = read_georeference(path)
    assert place is not None and place.crs == "EPSG:32633"
    (corners,) = place.corners_lonlat(np.array([[0.0, 0.0, 10.0, 10.0]]))
    assert corners[3] == pytest.approx([15.0, 45.1535], abs=1e-3)  # the central meridian of zone 33


def test_images_without_a_place_are_counted(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no raster")
    with geojson_file(tmp_path / "p.geojson") as writer:
        writer.add(found_in(tmp_path / "a.png"))
    assert writer.without_place == [str(tmp_path / "a.png")]
    assert json.loads((tmp_path / "p.geojson").read_text())["features"] == []


def test_without_rasterio_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("smidgen.inference.georeference.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"smidgen\[geo\]"), geojson_file(tmp_path / "p.geojson"):
        pass


def test_a_name_that_is_not_utf8_has_no_place():
    assert read_georeference("\udce9.tif") is None


@pytest.mark.parametrize(
    ("crs", "left"), [('LOCAL_CS["site",UNIT["metre",1]]', 0), ("+proj=geos +h=35785831 +lon_0=0 +sweep=y", -5.5e6)]
)
def test_what_has_no_longitude_ends_nothing(tmp_path, crs, left):
    path = write(tmp_path / "a.tif", crs=crs, transform=rasterio.transform.from_origin(left, -left, 1.0, 1.0))
    with geojson_file(tmp_path / "p.geojson") as writer:
        writer.add(found_in(path))
    assert writer.without_place == [str(path)]
    assert json.loads((tmp_path / "p.geojson").read_text())["features"] == []
