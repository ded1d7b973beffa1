"""What goes out to other tools' forms comes back the same, and lies where a map says it should."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smidgen.structures import Classes, Detections

CLASSES = Classes(("boat", "car", "Straße"), (4, 7, 9))
UTM = (0.5, 0.0, 400_000.0, 0.0, -0.5, 5_600_000.0)  # half a meter a pixel, north up


def detections(count: int = 5, seed: int = 0) -> Detections:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 4, generator=generator) * 100
    boxes = torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:] / 4], dim=1)
    return Detections(
        boxes_xyxy=boxes,
        scores=torch.rand(count, generator=generator).sort(descending=True).values,
        labels=torch.randint(0, 3, (count,), generator=generator),
        image_hw=(120, 160),
        image_id="a b.png",
        file="a b.png",
        class_names=CLASSES.names,
        category_ids=CLASSES.ids,
    )


def assert_same(found: Detections, expected: Detections, atol: float = 1e-6) -> None:
    torch.testing.assert_close(found.boxes_xyxy, expected.boxes_xyxy, atol=atol, rtol=0)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-6, rtol=0)
    assert found.labels.tolist() == expected.labels.tolist()
    assert (found.image_hw, found.class_names, found.category_ids) == ((120, 160), CLASSES.names, CLASSES.ids)


@given(st.integers(0, 8), st.integers(0, 1000))
def test_coco_and_geojson_round_trip(count: int, seed: int) -> None:
    made = detections(count, seed)
    assert_same(Detections.from_coco(made.to_coco(), CLASSES, (120, 160)), made, atol=1.1e-3)
    document = json.loads(json.dumps(made.to_geojson(UTM, "EPSG:32632")))
    back = Detections.from_geojson(document, CLASSES)
    assert_same(back, made, atol=1.1e-3)
    assert (back.file, back.image_id) == (made.file, made.image_id)


@pytest.mark.parametrize("count", [0, 5])
def test_pandas_round_trip(count: int) -> None:
    pandas = pytest.importorskip("pandas")
    made = detections(count)
    frame = made.to_pandas()
    back = Detections.from_pandas(frame.sample(frac=1, random_state=1), CLASSES, None if count else (120, 160))
    assert_same(back, made)
    assert set(frame["category"]) <= set(CLASSES.names)
    if count:
        with pytest.raises(ValueError, match="rows of one image"):
            Detections.from_pandas(pandas.concat([frame, frame.assign(image_id="b")]), CLASSES)


@pytest.mark.parametrize("count", [0, 5])
def test_supervision_round_trip(count: int) -> None:
    pytest.importorskip("supervision")
    made = detections(count)
    found = made.to_supervision()
    assert len(found) == count
    assert found.data["class_name"].tolist() == [CLASSES.names[label] for label in made.labels.tolist()]
    assert_same(Detections.from_supervision(found, CLASSES), made)


def test_supervision_without_scores_and_with_foreign_classes() -> None:
    supervision = pytest.importorskip("supervision")
    found = supervision.Detections(xyxy=np.array([[1.0, 2.0, 3.0, 4.0]]), class_id=np.array([2]))
    assert Detections.from_supervision(found, CLASSES, (120, 160)).scores.tolist() == [1.0]
    with pytest.raises(ValueError, match="image_hw"):
        Detections.from_supervision(found, CLASSES)
    with pytest.raises(ValueError, match=r"class_id in 0\.\.0, got 2"):
        Detections.from_supervision(found, Classes(("one",), (1,)), (120, 160))


def area(ring: list[list[float]]) -> float:
    """Signed: positive where the ring runs counterclockwise with y up."""
    x, y = np.array(ring).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


@pytest.mark.parametrize("transform", [None, UTM, (0.0, 0.5, 10.0, 0.5, 0.0, 10.0), (0.3, 0.4, 0.0, 0.4, -0.3, 0.0)])
def test_outlines_are_closed_and_counterclockwise(transform: tuple[float, ...] | None) -> None:
    made = detections()
    for feature in made.to_geojson(transform)["features"]:
        (ring,) = feature["geometry"]["coordinates"]
        assert ring[0] == ring[-1]
        _, _, width, height = feature["properties"]["bbox"]
        scale = 1.0 if transform is None else 0.25
        assert area(ring) == pytest.approx(width * height * scale, rel=1e-2, abs=1e-2)


def test_coordinates_of_a_map() -> None:
    one = detections(1)
    x0, y0, x1, y1 = one.boxes_xyxy[0].tolist()
    document = one.to_geojson(UTM, "EPSG:32632")
    ring = np.array(document["features"][0]["geometry"]["coordinates"][0])
    assert ring.min(axis=0) == pytest.approx([400_000 + x0 / 2, 5_600_000 - y1 / 2])
    assert ring.max(axis=0) == pytest.approx([400_000 + x1 / 2, 5_600_000 - y0 / 2])
    assert document["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32632"
    assert "crs" not in one.to_geojson(UTM, "EPSG:4326")
    with pytest.raises(ValueError, match="expected a transform"):
        one.to_geojson(crs="EPSG:32632")


def test_projected_to_longitude_and_latitude() -> None:
    warp = pytest.importorskip("rasterio.warp")

    def project(x: list[float], y: list[float]) -> list[list[float]]:
        return list(warp.transform("EPSG:32632", "EPSG:4326", x, y))

    document = detections(2).to_geojson(UTM, "EPSG:32632", project)
    ring = document["features"][1]["geometry"]["coordinates"][0]
    assert ring[0] == pytest.approx([7.59, 50.54], abs=0.02)
    assert area(ring) > 0
    assert "crs" not in document


def test_unknown_categories_are_named() -> None:
    with pytest.raises(ValueError, match=r"out of \[1\], got \[7, 9\]"):
        Detections.from_coco(detections(9).to_coco(), Classes(("one",), (1,)), (120, 160))


def test_what_is_missing_is_named() -> None:
    rows = [{key: value for key, value in row.items() if key != "score"} for row in detections().to_coco()]
    with pytest.raises(ValueError, match=r"expected 'score' in every detection, got .*bbox.* in number 0"):
        Detections.from_coco(rows, CLASSES, (120, 160))
    with pytest.raises(ValueError, match="with features"):
        Detections.from_geojson({"type": "FeatureCollection"}, CLASSES)
    foreign = {"type": "FeatureCollection", "features": [{"type": "Feature", "properties": None, "geometry": None}]}
    with pytest.raises(ValueError, match="'bbox' in every detection, got nothing"):
        Detections.from_geojson(foreign, CLASSES, (120, 160))


def test_missing_columns_are_named() -> None:
    pytest.importorskip("pandas")
    with pytest.raises(ValueError, match="; score not among"):
        Detections.from_pandas(detections().to_pandas().drop(columns="score"), CLASSES)


@pytest.mark.parametrize(("package", "method"), [("pandas", "to_pandas"), ("supervision", "to_supervision")])
def test_missing_package_is_named(package: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=f"pip install .*{package}"):
        getattr(detections(), method)()
