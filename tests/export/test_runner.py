"""The stand-alone runner's own arithmetic: tiles that answer for every point once, canvases that the file takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("onnxruntime")

from smidgen.export import runner


@given(st.integers(1, 500), st.integers(1, 100), st.floats(0, 0.9))
def test_every_point_belongs_to_one_tile_that_sees_it(extent: int, side: int, overlap: float) -> None:
    tiles = runner.cores(extent, side, overlap)
    for point in np.arange(extent) + 0.5:
        owners = [start for start, first, last in tiles if first <= point < last]
        assert len(owners) == 1
        assert owners[0] <= point <= owners[0] + side


def detector(**changes: Any) -> runner.Detector:
    """One object in the middle of whatever the network sees."""
    made = object.__new__(runner.Detector)
    made.bundle = {
        "score": 0.3,
        "tiling": None,
        "preprocessing": {"short_side": 32, "long_side": 64, "pad_multiple": 8},
        "canvas": {"least_hw": [16, 16], "fixed_hw": None},
        "classes": {"names": ["boat"], "ids": [7]},
    } | changes
    made.session = Middle()
    return made


class Middle:
    def run(self, names: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        boxes = np.array([[[0.4, 0.4, 0.6, 0.6], [0, 0, 1, 1]]], dtype=np.float32)
        scores, labels = np.array([[0.9, 0.0]], dtype=np.float32), np.zeros((1, 2), dtype=np.int64)
        return [boxes, scores, labels, np.array([[True, False]])]


def test_boxes_are_in_pixels_of_the_image() -> None:
    (found,) = detector()(Image.new("RGB", (200, 100)))
    assert found == {"bbox": [80.0, 40.0, 40.0, 20.0], "score": 0.9, "category_id": 7, "category": "boat"}


def test_every_tile_answers_for_its_core() -> None:
    tiled = detector(tiling={"tile_px": 100, "overlap": 0.0})
    boxes = [found["bbox"] for found in tiled(Image.new("L", (200, 100)))]
    assert boxes == [[40.0, 40.0, 20.0, 20.0], [140.0, 40.0, 20.0, 20.0]]


@pytest.mark.parametrize(
    ("canvas", "picture_wh", "shape", "size"),
    [
        ({"least_hw": [16, 16], "fixed_hw": None}, (100, 50), (32, 64), (32, 64)),
        ({"least_hw": [16, 16], "fixed_hw": None}, (600, 10), (16, 64), (1, 64)),
        ({"least_hw": [16, 16], "fixed_hw": [24, 40]}, (100, 50), (24, 40), (20, 40)),
    ],
)
def test_pixels_stand_in_the_corner_of_the_canvas(
    canvas: dict[str, Any], picture_wh: tuple[int, int], shape: tuple[int, int], size: tuple[int, int]
) -> None:
    pixels, size_hw = detector(canvas=canvas).network_input(Image.new("RGB", picture_wh, (255, 255, 255)))
    assert (pixels.shape, size_hw) == ((1, 3, *shape), size)
    assert (pixels > 0).sum() == 3 * size[0] * size[1]


def test_unusual_pictures_become_rgb() -> None:
    deep = Image.fromarray(np.full((4, 4), 65535, dtype=np.uint16))
    assert runner.upright_rgb(deep).getpixel((0, 0)) == (255, 255, 255)
    assert runner.upright_rgb(Image.new("RGBA", (4, 4), (255, 0, 0, 0))).getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("values", "message"), [(np.full((4, 4), 0.5, np.float32), "floats"), (np.full((4, 4), 70000, np.int32), "65535")]
)
def test_pictures_that_the_library_refuses_are_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        runner.upright_rgb(Image.fromarray(values))


def test_one_image_too_many_pixels_costs_no_other_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (100, 50)).save(tmp_path / "good.png")
    Image.new("L", (300, 300)).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30_000)
    made = detector()
    monkeypatch.setattr(runner, "Detector", lambda folder, threads: made)
    images = [str(tmp_path / name) for name in ("huge.png", "good.png")]
    monkeypatch.setattr(sys, "argv", ["run.py", *images, "--out", str(tmp_path / "made" / "found.json")])
    assert runner.main() == 0
    huge, good = json.loads((tmp_path / "made" / "found.json").read_text())["images"]
    assert "exceeds limit" in huge["error"] and "skipped" in capsys.readouterr().err
    assert len(good["detections"]) == 1


@pytest.mark.parametrize(("options", "message"), [(["--score", "30"], "--score"), ([], "cannot begin")])
def test_what_cannot_begin_ends_in_words(
    options: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "a.png", *options])  # no bundle.json lies beside the runner here
    with pytest.raises(SystemExit, match="2"):
        runner.main()
    assert message in capsys.readouterr().err


def test_missing_packages_are_said(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("import nothing_like_it")
    (tmp_path / "run.py").write_bytes(Path(runner.__file__).read_bytes())
    ended = subprocess.run([sys.executable, tmp_path / "run.py", "a.png"], capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.strip() == "error: No module named 'nothing_like_it'; pip install onnxruntime numpy pillow"
