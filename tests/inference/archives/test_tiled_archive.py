"""Archives of large images, looked at in tiles: equal to `predict` with tiles, refused where the tiles are others."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from bright_blobs import BrightBlobs
from PIL import Image

from smidgen.boxes.tile_merging import Merging
from smidgen.inference import Guide, Tiling, predict, prediction_record
from smidgen.inference import guided_tiling as guided
from smidgen.inference.archives import Execution, predict_archive, write_predictions
from smidgen.inference.archives.parquet_shards import IMAGES, all_rows
from smidgen.inference.archives.storage import open_storage
from smidgen.inference.object_maps import ObjectMap

pytest.importorskip("pyarrow")
TILING = Tiling(tile_px=64, overlap="16px")
TILES_OF_AN_IMAGE = 3 * 4


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Four images of several tiles, as TIFF and PNG, and two files that are broken in different places."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    for number in range(4):
        draw(folder / f"{number}.{'tif' if number % 2 else 'png'}", number)
    (folder / "2b.tif").write_bytes(b"II*\0 no tiff")
    (folder / "2c.png").write_bytes((folder / "0.png").read_bytes()[:150])
    return folder


def draw(path: Path, seed: int) -> None:
    """Bright rectangles of 4 to 12 px in cells of 20 px, on 180 x 140 px."""
    generator = np.random.default_rng(seed)
    pixels = np.zeros((140, 180, 3), dtype=np.uint8)
    for left, top in [(x, y) for x in range(0, 180, 20) for y in range(0, 140, 20)]:
        width, height = generator.integers(4, 13, 2)
        pixels[top + 4 : top + 4 + height, left + 4 : left + 4 + width] = 255 * generator.integers(0, 2)
    Image.fromarray(pixels).save(path)


def images_of(out: Path | str, tmp_path: Path) -> list[dict[str, Any]]:
    write_predictions(out, tmp_path / "predictions.json")
    images: list[dict[str, Any]] = json.loads((tmp_path / "predictions.json").read_text())["images"]
    return images


def as_predicted(sources: Iterable[Path] | Path, tiling: Tiling = TILING) -> list[dict[str, Any]]:
    found = predict(
        BrightBlobs(64), sources, tiling=tiling, on_unreadable=lambda error: None, on_note=lambda note: None
    )
    return [prediction_record(one) for one in found]


@pytest.mark.parametrize("batch_size", [1, 5])
def test_an_archive_in_tiles_holds_what_predict_finds(scenes: Path, tmp_path: Path, batch_size: int) -> None:
    notes: list[str] = []
    report = predict_archive(
        BrightBlobs(64),
        scenes,
        tmp_path / "out",
        tiling=TILING,
        images_per_shard=4,
        execution=Execution(batch_size=batch_size),
        on_note=notes.append,
    )
    assert (report.images, report.shards, report.guide) == (4, 2, None)
    assert {Path(one["file"]).name for one in report.unreadable} == {"2b.tif", "2c.png"}
    assert all(one["reason"] and "smidgen-" not in one["reason"] for one in report.unreadable)
    images = images_of(tmp_path / "out", tmp_path)
    assert [image for image in images if "error" not in image] == as_predicted(scenes)
    assert report.detections > 60
    assert notes[0].startswith("in each worker, memory above the model: about") and len(notes) == 1


def test_workers_and_limits(scenes: Path, tmp_path: Path) -> None:
    """What a worker has to tell reaches the driver, and nothing is cut at 300 unless that is asked for."""
    notes: list[str] = []
    report = predict_archive(
        BrightBlobs(64, num_detections=2), scenes, tmp_path / "out", tiling=TILING, on_note=notes.append
    )
    assert report.shards == 1 and sum("all the detections it can give" in note for note in notes) == 4
    few = predict_archive(BrightBlobs(64), scenes, tmp_path / "few", tiling=TILING, max_detections=3)
    assert few.detections == 4 * 3


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "whole": ({"tiling": None}, "--tile or --guide: tiles, now whole images"),
    "tile": ({"tiling": Tiling(tile_px=80, overlap="16px")}, "--tile 64, now 80"),
    "overlap": ({"tiling": Tiling(tile_px=64, overlap="20px")}, "--overlap in pixels 16, now 20"),
    "merge": ({"tiling": Tiling(tile_px=64, overlap="16px", merging=Merging(kind="none"))}, "--merge nms, now none"),
    "iou": ({"tiling": Tiling(tile_px=64, overlap="16px", merging=Merging(iou=0.7))}, "merging.iou 0.5, now 0.7"),
    "flips": ({"tiling": Tiling(tile_px=64, overlap="16px", flips=True)}, "--flips False, now True"),
    "limit": ({"tiling": TILING, "max_detections": 5}, "--max-detections None, now 5"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_going_on_with_other_tiles_is_refused(scenes: Path, tmp_path: Path, other: str) -> None:
    predict_archive(BrightBlobs(64), scenes / "1.tif", tmp_path / "out", tiling=TILING)
    settings, message = OTHERS[other]
    with pytest.raises(ValueError, match=message) as refusal:
        predict_archive(BrightBlobs(64), scenes / "1.tif", tmp_path / "out", **settings)
    assert str(refusal.value).count(", now ") == 1 + (other == "whole"), "nothing else is named, but for the limit"


def test_going_on_with_other_memory_and_words_is_not(scenes: Path, tmp_path: Path) -> None:
    predict_archive(BrightBlobs(64), scenes / "1.tif", tmp_path / "out", tiling=TILING)
    same = Tiling(tile_px=64, overlap=0.25, memory_bytes=2**30)
    assert predict_archive(BrightBlobs(64), scenes / "1.tif", tmp_path / "out", tiling=same).images_now == 0


def test_tiles_that_do_not_fit_begin_nothing(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"one tile at a time takes.*--memory"):
        predict_archive(BrightBlobs(64), scenes, tmp_path / "out", tiling=Tiling(tile_px=64, memory_bytes=1000))
    assert not (tmp_path / "out").exists()


def test_tiles_of_an_object_store(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "copies"))
    (tmp_path / "copies").mkdir()
    store = fsspec.filesystem("memory")
    for file in scenes.iterdir():
        store.pipe_file(f"/tiled/in/{file.name}", file.read_bytes())
    report = predict_archive(BrightBlobs(64), "memory://tiled/in", "memory://tiled/out", tiling=TILING)
    assert report.images == 4
    assert {one["file"] for one in report.unreadable} == {"memory:///tiled/in/2b.tif", "memory:///tiled/in/2c.png"}
    assert all(one["reason"] for one in report.unreadable)
    found = images_of("memory://tiled/out", tmp_path)
    local = as_predicted(scenes)
    assert [image["detections"] for image in found if "error" not in image] == [one["detections"] for one in local]
    assert not list((tmp_path / "copies").iterdir()), "copies last as long as an image"


def test_a_guide_is_counted_and_remembered(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guided, "object_maps", lambda model, images: [left_half(images.pixels)])
    monkeypatch.setattr(guided, "why_no_object_maps", lambda model: None)
    guide = Guide(scale=0.5, threshold=0.5, block_px=128)
    sources, out = [scenes / "0.png", scenes / "1.tif"], tmp_path / "out"
    report = predict_archive(BrightBlobs(64), sources, out, tiling=TILING, guide=guide)
    assert report.guide == {"tiles": 2 * TILES_OF_AN_IMAGE, "looked_at": 2 * TILES_OF_AN_IMAGE // 2}
    assert json.loads((out / "report.json").read_text())["guide"] == report.guide
    assert len(list(all_rows(open_storage(out), IMAGES))) == 2
    with pytest.raises(ValueError, match=r"--guide-threshold 0\.5, now 0\.9"):
        predict_archive(BrightBlobs(64), sources, out, tiling=TILING, guide=replace(guide, threshold=0.9))
    with pytest.raises(ValueError, match="--tile or --guide: tiles that a guide chooses, now tiles"):
        predict_archive(BrightBlobs(64), sources, out, tiling=TILING)


def left_half(pixels: torch.Tensor) -> ObjectMap:
    """A map that sees something in the left half of the reduced image (90 x 70 px) alone."""
    scores = torch.zeros(pixels.shape[-2] // 2, pixels.shape[-1] // 2)
    scores[:, :20] = 1.0
    return ObjectMap(scores, (2.0, 2.0))


def test_an_archive_begun_before_there_were_tiles_goes_on(scenes: Path, tmp_path: Path) -> None:
    predict_archive(BrightBlobs(64), scenes, tmp_path / "out")
    file = tmp_path / "out" / "manifest.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in values.items() if name not in ("tiling", "guide")}))
    assert predict_archive(BrightBlobs(64), scenes, tmp_path / "out").images_now == 0
