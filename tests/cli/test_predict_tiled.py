"""`smidgen predict --tile`: images, archives and numbered frames answer alike, and a guide says what it chose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smidgen import create_model, save
from smidgen.__main__ import main
from smidgen.inference.archives import write_predictions
from smidgen.models.dense_config import DenseReadoutConfig
from smidgen.structures import Preprocessing

TILES_OF_AN_IMAGE = 2 * 3
SETTINGS = ("--tile", "32", "--overlap", "8px", "--score", "0", "--max-detections", "5")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Untrained models that keep their lowest scores: one without maps, and one whose maps can guide."""
    folder, small = tmp_path_factory.mktemp("predict_tiled"), Preprocessing(short_side=32, long_side=32)
    for name in ("retinanet", "query_det"):
        readout = DenseReadoutConfig(score_threshold=0.0)
        save(create_model(f"{name}_nano", num_classes=2, preprocessing=small, readout=readout), folder / name)
    return {name: folder / name for name in ("retinanet", "query_det")}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three pictures of 80 x 50 px with numbered names: six tiles each."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (50, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return folder


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any], str]:
    """Exit code, the object on stdout and the words on stderr of `smidgen predict`."""
    code = main(["predict", *map(str, words), "--device", "cpu", "--json"])
    told = capsys.readouterr()
    return code, json.loads(told.out), told.err


def test_images_archives_and_frames_answer_alike(
    runs: dict[str, Path], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("av")
    run = runs["retinanet"]
    code, plain, _ = answer(capsys, run, photos, "--out", tmp_path / "plain", "--no-pictures", *SETTINGS)
    assert code == 0 and plain["counts"] == {"images": 3, "detections": 15, "unreadable": 0}
    code, report, err = answer(capsys, run, photos, "--out", tmp_path / "tables", "--engine", "local", *SETTINGS)
    assert (code, report["images"], report["guide"]) == (0, 3, None)
    assert "in each worker, memory above the model: about" in err
    write_predictions(tmp_path / "tables", tmp_path / "tables.json")
    assert json.loads((tmp_path / "tables.json").read_text())["images"] == plain["images"]
    code, told, _ = answer(capsys, run, photos / "%02d.png", "--out", tmp_path / "frames", *SETTINGS)
    video = told["videos"][0]
    assert (code, video["frames"], video["tiling"]["tile_px"]) == (0, 3, 32)
    lines = [json.loads(line)["detections"] for line in Path(video["lines"]).read_text().splitlines()]
    assert lines == [image["detections"] for image in plain["images"]]


@pytest.mark.slow
def test_tables_of_ray_are_those_of_one_process(
    runs: dict[str, Path], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    pandas = pytest.importorskip("pandas")
    words, guided = [runs["query_det"], photos], ["--guide", "0.5", "--guide-threshold", "0", "--shard-images", "1"]
    reports = {
        engine: answer(capsys, *words, "--out", tmp_path / engine, "--engine", engine, *SETTINGS, *guided)[1]
        for engine in ("local", "ray")
    }
    assert reports["ray"]["guide"] == reports["local"]["guide"] == {"tiles": 18, "looked_at": 18}
    for table in ("images", "detections"):
        local, ray = (pandas.read_parquet(tmp_path / engine / table).astype(str) for engine in reports)
        assert len(local) and local.equals(ray)


def test_other_tiles_do_not_go_on(
    runs: dict[str, Path], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    words = [runs["retinanet"], photos, "--out", tmp_path / "out", "--engine", "local"]
    assert answer(capsys, *words, *SETTINGS)[0] == 0
    assert answer(capsys, *words, *SETTINGS)[1]["images_now"] == 0
    code, refusal, _ = answer(capsys, *words, *SETTINGS, "--flips")
    assert code == 2 and "--flips False, now True" in refusal["error"]
    code, refusal, _ = answer(capsys, *words, *SETTINGS[4:])
    assert code == 2 and "--tile or --guide: tiles, now whole images" in refusal["error"]


@pytest.mark.parametrize(("threshold", "looked_at"), [("0", TILES_OF_AN_IMAGE), ("1.1", 0)])
def test_a_guide_says_what_it_chose(
    runs: dict[str, Path],
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    threshold: str,
    looked_at: int,
) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("av")
    settings = [*SETTINGS, "--guide", "0.5", "--guide-threshold", threshold]
    counts = {"tiles": 3 * TILES_OF_AN_IMAGE, "looked_at": 3 * looked_at}
    words = f"guide: {counts['looked_at']} of {counts['tiles']} tiles looked at"
    run = runs["query_det"]
    _, document, err = answer(capsys, run, photos, "--out", tmp_path / "plain", "--no-pictures", *settings)
    assert words in err
    assert document["guide"] == {
        "scale": 0.5, "threshold": float(threshold), "share": None, "block_px": None, **counts,
    }  # fmt: skip
    _, report, err = answer(capsys, run, photos, "--out", tmp_path / "tables", "--engine", "local", *settings)
    assert report["guide"] == counts and words in err
    _, told, err = answer(capsys, run, photos / "%02d.png", "--out", tmp_path / "frames", *settings)
    assert told["videos"][0]["guide"] == document["guide"] and words in err
