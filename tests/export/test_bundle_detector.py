"""A bundle in place of a run: its own plan and threshold go unless others are given, and it can be sent to workers."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import smidgen
from smidgen.__main__ import main
from smidgen.export import bundle_detector, load_bundle
from smidgen.export.bundle import Bundle, Canvas, Tiling, write_bundle
from smidgen.inference import predict
from smidgen.inference.archives.weights_fingerprint import weights_fingerprint
from smidgen.structures import Classes, Preprocessing

PLAN = Tiling(tile_px=64, overlap=0.25)
BUNDLE = Bundle(
    system="dino_nano",
    runtime="onnxruntime",
    preprocessing=Preprocessing(short_side=64, long_side=64),
    canvas=Canvas(least_hw=(32, 32)),
    classes=Classes(("boat",), (3,)),
    score=0.15,
    max_detections=2,
    tiling=PLAN,
    verified=True,
)


def middle_of_each(pixels: np.ndarray, sizes_hw: np.ndarray) -> tuple[np.ndarray, ...]:
    """In place of a runtime: a box in the middle of each image with score 0.2, and one with 0.1."""
    count = len(pixels)
    boxes = np.tile(np.array([[0.45, 0.45, 0.55, 0.55]], np.float32), (count, 2, 1))
    scores = np.tile(np.array([0.2, 0.1], np.float32), (count, 1))
    return boxes, scores, np.zeros((count, 2), np.int64), np.ones((count, 2), bool)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle whose file is answered for by `middle_of_each`."""
    monkeypatch.setattr(bundle_detector, "open_session", lambda file, runtime: middle_of_each)
    folder = tmp_path / "bundle"
    folder.mkdir()
    write_bundle(BUNDLE, folder)
    (folder / "model.onnx").write_bytes(b"numbers")
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """160 x 64 px: three tiles of 64 px."""
    Image.new("RGB", (160, 64)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def predicted(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[dict[str, Any], str]:
    assert main(["predict", *map(str, words), "--no-pictures", "--device", "cpu", "--json"]) == 0
    told = capsys.readouterr()
    return json.loads(told.out), told.err


def test_its_plan_and_threshold_go(
    folder: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document, err = predicted(capsys, folder, picture, "--out", tmp_path / "out")
    assert "as the exported file says: tiles of 64 px that overlap by 16 px (--tile 0 looks at whole images)" in err
    assert (document["tiling"]["tile_px"], document["tiling"]["overlap_px"]) == (64, 16)
    assert [round(one["score"], 6) for one in document["images"][0]["detections"]] == [0.2] * 3


@pytest.mark.parametrize(
    ("words", "tiling", "detections"),
    [
        (["--tile", "100", "--overlap", "40px"], (100, 40), 2),
        (["--overlap", "0"], (64, 0), 3),
        (["--tile", "0"], None, 1),
        (["--tile", "0", "--score", "0.05"], None, 2),
    ],
)
def test_options_go_before_it(
    folder: Path,
    picture: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    tiling: tuple[int, int] | None,
    detections: int,
) -> None:
    document, _ = predicted(capsys, folder, picture, "--out", tmp_path / "out", *words)
    told = document.get("tiling")
    assert (told and (told["tile_px"], told["overlap_px"])) == tiling
    assert len(document["images"][0]["detections"]) == detections


def test_its_plan_in_python(folder: Path, picture: Path) -> None:
    detector = load_bundle(folder)
    assert detector.tiling == smidgen.Tiling(tile_px=64, overlap=0.25)
    counts = [len(next(predict(detector, picture, score=0.15, tiling=tiling))) for tiling in (None, detector.tiling)]
    assert counts == [1, 3]


def test_a_full_answer_is_said(folder: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, err = predicted(capsys, folder, picture, "--out", tmp_path / "out", "--score", "0")
    assert "the model answered with all the detections it can give in 3 looks" in err


def test_archives_go_by_it_too(folder: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow")
    report, _ = predicted(capsys, folder, picture, "--out", tmp_path / "out", "--engine", "local")
    assert report["detections"] == 3
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["tiling"]["tile_px"] == 64


def test_another_process_opens_it_where_it_lies(folder: Path) -> None:
    detector = load_bundle(folder)
    again = pickle.loads(pickle.dumps(detector))
    assert again.bundle == BUNDLE and again.folder == folder and not again.training
    with pytest.raises(TypeError, match="never given a folder"):
        pickle.dumps(bundle_detector.BundleDetector(BUNDLE, middle_of_each))


def test_other_numbers_are_another_model(folder: Path) -> None:
    before = weights_fingerprint(load_bundle(folder))
    assert weights_fingerprint(load_bundle(folder / "bundle.json")) == before
    (folder / "model.onnx").write_bytes(b"other numbers")
    changed = weights_fingerprint(load_bundle(folder))
    write_bundle(replace(BUNDLE, classes=Classes(("car",), (3,))), folder)
    assert len({before, changed, weights_fingerprint(load_bundle(folder))}) == 3


@pytest.mark.parametrize(("options", "expected"), [([], 0.15), (["--score", "0.4"], 0.4)])
def test_a_server_starts_from_the_bundles_threshold(
    options: list[str], expected: float, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("python_multipart")
    server = pytest.importorskip("smidgen.serving.server")
    served: list[Any] = []
    monkeypatch.setattr(server, "serve", lambda app, **_: served.append(app))
    assert main(["serve", str(folder), *options]) == 0
    parameters = served[0].openapi()["paths"]["/predict"]["post"]["parameters"]
    assert {one["name"]: one["schema"].get("default") for one in parameters}["score"] == expected


def test_a_server_answers_with_it(folder: Path, picture: Path) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("python_multipart")
    client = pytest.importorskip("starlette.testclient")
    from smidgen.serving import create_app

    app = create_app(load_bundle(folder), score=0.15)
    app.state.answering.warm_up()
    with client.TestClient(app) as asking:
        answer = asking.post("/predict?salience=1", content=picture.read_bytes(), headers={"content-type": "image/png"})
    (image,) = answer.json()["images"]
    assert [round(one["score"], 6) for one in image["detections"]] == [0.2]
    assert image["salience"] is None


def test_its_state_is_no_checkpoint(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a model as it was trained, got .*BundleDetector"):
        smidgen.save_pretrained(load_bundle(folder), tmp_path / "shared")


def test_images_are_resized_once_for_a_fixed_canvas(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As run.py does it: what is resized twice is blurred, and found with other scores."""
    write_bundle(replace(BUNDLE, canvas=Canvas(least_hw=(48, 64), fixed_hw=(48, 64))), folder)
    pixels = (np.arange(100 * 120 * 3) % 251).astype(np.uint8).reshape(100, 120, 3)
    seen: list[np.ndarray] = []

    def looking(canvas: np.ndarray, sizes_hw: np.ndarray) -> tuple[np.ndarray, ...]:
        seen.append(canvas[0, :, : sizes_hw[0, 0], : sizes_hw[0, 1]])
        return middle_of_each(canvas, sizes_hw)

    monkeypatch.setattr(bundle_detector, "open_session", lambda file, runtime: looking)
    Image.fromarray(pixels).save(folder / "stripes.png")
    list(predict(load_bundle(folder), folder / "stripes.png"))
    once = Image.fromarray(pixels).resize((57, 48), Image.Resampling.BILINEAR)
    assert np.abs(seen[0].astype(int) - np.asarray(once).transpose(2, 0, 1)).max() <= 1
