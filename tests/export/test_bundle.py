"""bundle.json: what is written is read, and what is damaged is refused in words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from smidgen.export.bundle import Bundle, Canvas, Check, Tiling, is_bundle, read_bundle, write_bundle
from smidgen.structures import Classes, ObjectSizes, Preprocessing

BUNDLE = Bundle(
    system="dino_nano",
    runtime="onnxruntime",
    preprocessing=Preprocessing(short_side=384, long_side=640),
    canvas=Canvas(least_hw=(128, 160)),
    classes=Classes(("Auto", "船"), (3, 90)),
    score=0.25,
    max_detections=300,
    tiling=Tiling(tile_px=1024, overlap=0.25),
    object_sizes=ObjectSizes(count=7, median_px=8.0, percentile_99_px=31.5, largest_px=40.0),
    verified=True,
    checks=(Check(canvas_hw=(128, 160), images=2, pairs=300, missing=0, surplus=1, worst_box=1e-6, worst_score=1e-7),),
    measured={"AP_int8": 0.2},
    versions={"smidgen": "0.1"},
)


def test_round_trip(tmp_path: Path) -> None:
    write_bundle(BUNDLE, tmp_path)
    assert is_bundle(tmp_path)
    assert read_bundle(tmp_path) == read_bundle(tmp_path / "bundle.json") == BUNDLE
    document = json.loads((tmp_path / "bundle.json").read_text(encoding="utf-8"))
    assert (document["format"], document["version"], document["file"]) == ("smidgen bundle", 1, "model.onnx")


def test_bundles_of_earlier_versions_know_no_object_sizes(tmp_path: Path) -> None:
    write_bundle(BUNDLE, tmp_path)
    file = tmp_path / "bundle.json"
    document = json.loads(file.read_text(encoding="utf-8"))
    del document["object_sizes"]
    file.write_text(json.dumps(document), encoding="utf-8")
    assert read_bundle(tmp_path) == replace(BUNDLE, object_sizes=None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "of version 1, got 'smidgen bundle' 2"),
        ({"runtime": "tflite"}, "runtime"),
        ({"tiling": {"tile_px": 0, "overlap": 0.2}}, "at least 1 px"),
        ({"canvas": {}}, "canvas.least_hw"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, object], message: str, tmp_path: Path) -> None:
    write_bundle(BUNDLE, tmp_path)
    file = tmp_path / "bundle.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_bundle(tmp_path)


def test_half_a_file_is_damaged(tmp_path: Path) -> None:
    write_bundle(BUNDLE, tmp_path)
    file = tmp_path / "bundle.json"
    file.write_text(file.read_text(encoding="utf-8")[:200], encoding="utf-8")
    with pytest.raises(ValueError, match="damaged"):
        read_bundle(tmp_path)


def test_a_run_is_no_bundle(tmp_path: Path) -> None:
    assert not is_bundle(tmp_path)
