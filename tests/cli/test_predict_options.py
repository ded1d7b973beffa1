"""`smidgen predict` of archives and of videos: options reach the work, and what does not fit together is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smidgen import create_model, save
from smidgen.__main__ import main
from smidgen.models.dense_config import DenseReadoutConfig
from smidgen.structures import Preprocessing


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model that keeps its lowest scores: what it finds is of no interest, only that it is asked."""
    folder = tmp_path_factory.mktemp("predict_options") / "run"
    small, everything = Preprocessing(short_side=32, long_side=32), DenseReadoutConfig(score_threshold=0.0)
    save(create_model("retinanet_nano", num_classes=2, preprocessing=small, readout=everything), folder)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five pictures with numbered names."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return folder


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    """Exit code and the object on stdout of `smidgen predict`."""
    code = main(["predict", *map(str, words), "--device", "cpu", "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_the_local_engine_writes_tables_and_goes_on(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    (photos / "broken.jpg").write_bytes(b"no picture")
    words = [run, photos, "--out", tmp_path / "out", "--engine", "local", "--score", "0", "--max-detections", "2"]
    code, report = answer(capsys, *words, "--shard-images", "4", "--batch-size", "2")
    assert code == 0
    assert (report["files"], report["images"], report["shards"]) == (6, 5, 2)
    assert [Path(one["file"]).name for one in report["unreadable"]] == ["broken.jpg"]
    assert parquet.read_table(tmp_path / "out" / "detections").num_rows == report["detections"]
    code, again = answer(capsys, *words)
    assert (code, again["images"], again["images_now"]) == (0, 5, 0)
    code, refusal = answer(capsys, *words[:-1], "3")
    assert code == 2 and "--max-detections 2, now 3" in refusal["error"]


def test_numbered_frames_become_lines_and_a_film(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    av = pytest.importorskip("av")
    film = tmp_path / "film.mp4"
    words = ["--out", tmp_path / "out", "--fps", "10", "--every", "2", "--video", film, "--score", "0"]
    code, told = answer(capsys, run, photos / "%02d.png", *words, "--max-detections", "3")
    assert code == 0
    video = told["videos"][0]
    assert (video["frames"], video["broken"]) == (3, 0)
    lines = [json.loads(line) for line in Path(video["lines"]).read_text().splitlines()]
    assert [(line["frame"], line["seconds"]) for line in lines] == [(0, 0.0), (2, 0.2), (4, 0.4)]
    assert sum(len(line["detections"]) for line in lines) == video["detections"] <= 9
    with av.open(str(film)) as container:
        assert len(list(container.decode(video=0))) == 3


def test_a_film_that_cannot_be_read_is_a_failure(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av")
    (tmp_path / "no.mp4").write_bytes(b"no film")
    code, told = answer(capsys, run, tmp_path / "no.mp4", "--out", tmp_path / "out")
    assert code == 1 and "cannot read the video" in told["videos"][0]["error"]


def test_videos_of_one_name_have_lines_of_their_own(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("av")
    films = [tmp_path / name for name in ("x/cam.mp4", "y/cam.mp4", "z/cam-2.mp4")]
    for film in films:
        film.parent.mkdir()
        film.write_bytes(b"no film")
    _, told = answer(capsys, run, *films, "--out", tmp_path / "out")
    assert len({video["lines"] for video in told["videos"]}) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("{photos} --video {tmp}/film.mp4 --every 2", "numbered frames with --video, --every, got images"),
        ("{photos} --workers 2 --shard-images 5", "expected --engine with --workers, --shard-images"),
        ("{photos} --engine dask", "expected the engine local or ray, got 'dask'"),
        ("{photos} --engine local --guide 0.25", "--guide needs --tile"),
        ("{photos} --engine local --tile 16 --guide 0.25", "a model that can guide"),
        ("{photos} --engine local --tile 16 --overlap 16px", "an overlap from 0 to below the tile's 16 px"),
        ("{photos} --engine local --geojson", "--geojson is not offered with --engine"),
        ("{photos}/%02d.png --tile 16 --guide 0.25", "a model that can guide"),
        ("{photos}/%02d.png {photos}", "expected images or videos, got both"),
        ("{photos}/%02d.png {photos}/0%d.png --video {tmp}/film.mp4", "expected one source with --video, got 2"),
        ("{tmp}/film.mp4 --video {tmp}/./film.mp4", "--video to name another file than the video itself"),
        ("{photos}/%02d.png --fps 0", "--fps above 0"),
        ("{photos}/x%02d.png", "found none"),
        ("{photos} --engine local --max-detections 0", "at least 1 detection per image"),
    ],
)
def test_what_does_not_fit_together(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    told = words.format(photos=photos, tmp=tmp_path).split()
    code, refusal = answer(capsys, run, *told, "--out", tmp_path / "out")
    assert code == 2 and message in refusal["error"], refusal
