"""Files of any size through tiles: what is found is what lies in the image, broken files are told, limits are said."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bright_blobs import BrightBlobs
from PIL import Image

from smidgen.boxes.tile_merging import Merging
from smidgen.data import UnreadableImageError
from smidgen.data.windows import DecodedImage
from smidgen.inference import Tiling, predict, predictions_file, write_picture
from smidgen.inference.large_pictures import draw_large
from smidgen.inference.tiling import PixelRules, memory_in_bytes
from smidgen.inference.tiling.memory import MemoryForecast, forecast

TILING = Tiling(tile_px=64, overlap="16px")


def draw(path: Path, size_wh=(300, 170), number=60, seed=0, side=12):
    """A picture of bright rectangles of at most `side` px that do not touch; returns them, sorted."""
    generator = np.random.default_rng(seed)
    pixels = np.zeros((size_wh[1], size_wh[0], 3), dtype=np.uint8)
    boxes = []
    for _ in range(number):
        width, height = generator.integers(2, side + 1, 2)
        left, top = (int(generator.integers(0, full - own)) for full, own in zip(size_wh, (width, height), strict=True))
        if pixels[max(0, top - 2) : top + height + 2, max(0, left - 2) : left + width + 2].any():
            continue
        pixels[top : top + height, left : left + width] = 255
        boxes.append([left, top, left + int(width), top + int(height)])
    Image.fromarray(pixels).save(path)
    return sorted(boxes)


def boxes_of(detections):
    return sorted(detections.boxes_xyxy.round().int().tolist())


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("settings", [{}, {"flips": True}, {"scales": (1.0, 2.0)}])
def test_tiles_find_what_the_image_holds(tmp_path, suffix, settings):
    path = tmp_path / f"a.{suffix}"
    boxes = draw(path)
    (found,) = predict(BrightBlobs(64), path, tiling=Tiling(tile_px=64, overlap="16px", **settings), batch_size=3)
    assert len(boxes) > 30 and boxes_of(found) == boxes
    assert (found.image_hw, found.file, found.category_ids) == ((170, 300), str(path), (4,))


def test_tiles_of_several_images_share_batches_and_broken_ones_are_told(tmp_path):
    truth = {f"{name}.tif": draw(tmp_path / f"{name}.tif", (100, 60), seed=seed) for seed, name in enumerate("acd")}
    (tmp_path / "b.tif").write_bytes(b"II*\0 no tiff")
    Image.new("RGB", (200, 200)).save(tmp_path / "e.jpg")
    (tmp_path / "e.jpg").write_bytes((tmp_path / "e.jpg").read_bytes()[:300])
    problems: list[UnreadableImageError] = []
    model = BrightBlobs(64)
    found = list(predict(model, tmp_path, tiling=TILING, batch_size=4, on_unreadable=problems.append))
    assert {Path(one.file).name: boxes_of(one) for one in found} == truth
    assert [problem.path.name for problem in problems] == ["b.tif", "e.jpg"]
    assert model.batch_sizes == [1, 4, 2]  # the forecast; two tiles of each image


def test_images_no_larger_than_a_tile_are_seen_as_without_tiling(tmp_path):
    draw(tmp_path / "a.png", (60, 50), number=8)
    (tiled,), (plain,) = (predict(BrightBlobs(32), tmp_path, tiling=each, score=0.5) for each in (TILING, None))
    assert torch.equal(tiled.boxes_xyxy, plain.boxes_xyxy)


def test_limits_are_said(tmp_path):
    boxes = draw(tmp_path / "a.png")
    notes: list[str] = []
    (found,) = predict(BrightBlobs(64), tmp_path, tiling=TILING, max_detections=10, on_note=notes.append)
    assert len(found) == 10 and any(
        f"{len(boxes) - 10} detections beyond the best 10 dropped" in note for note in notes
    )
    notes.clear()
    list(predict(BrightBlobs(64, num_detections=2), tmp_path, tiling=TILING, on_note=notes.append))
    assert any("all the detections it can give" in note for note in notes)


def test_limits_count_what_merging_left_above_the_score(tmp_path, monkeypatch):
    assert len(draw(tmp_path / "a.png", (64, 64), side=6)) > 3
    detector, notes = BrightBlobs(64), []
    detect, looks = detector.detect, itertools.count()
    monkeypatch.setattr(  # nothing in mirrored tiles, so that fusion halves all scores
        detector, "detect", lambda *images: [found.above(next(looks) % 2) for found in detect(*images)]
    )
    tiling = replace(TILING, flips=True, merging=Merging(kind="fusion"))
    found = predict(detector, tmp_path, tiling=tiling, score=0.6, max_detections=3, on_note=notes.append)
    next(looks)  # the first look is at a gray tile, for the forecast of memory
    assert [len(one) for one in found] == [0] and not any("dropped" in note for note in notes)


def test_objects_cut_by_all_tiles_are_told_and_found_in_the_whole_image(tmp_path):
    picture = np.zeros((64, 200), dtype=np.uint8)
    picture[20:40, 10:190] = 255
    Image.fromarray(picture).save(tmp_path / "a.png")
    notes: list[str] = []
    (pieces,) = predict(BrightBlobs(64), tmp_path, tiling=TILING, on_note=notes.append)
    assert len(pieces) > 1 and any("cut by a tile's border" in note for note in notes)
    notes.clear()
    both = Tiling(tile_px=64, overlap="16px", whole_image=True)
    (whole,) = predict(BrightBlobs(64), tmp_path, tiling=both, on_note=notes.append)
    (box,) = whole.boxes_xyxy.tolist()
    assert box == pytest.approx([10, 20, 190, 40], abs=5)
    assert not any("cut" in note for note in notes)


def test_memory_is_forecast_and_kept(tmp_path):
    memory = MemoryForecast(network=100, pixels=20, reader=300, limit=1000)
    assert memory.of_batches(2) == 540
    assert memory.fitting(8) == 5 and memory.fitting(2) == 2
    with pytest.raises(ValueError, match=r"one tile at a time takes.*--memory"):
        MemoryForecast(network=1000, pixels=20, reader=300, limit=1000).fitting(1)
    assert forecast(BrightBlobs(64), TILING, "cpu").pixels == 3 * 64 * 64 * 4
    draw(tmp_path / "a.png")
    notes: list[str] = []
    list(predict(BrightBlobs(64), tmp_path, tiling=TILING, on_note=notes.append))
    assert notes[0].startswith("memory above the model: about")


def test_memory_is_measured_once_for_a_model_and_the_size_of_its_input(tmp_path):
    draw(tmp_path / "a.png", (60, 50), number=8)
    model = BrightBlobs(64)
    for tile_px in (64, 64, 48):  # all of them resized to 64 px
        list(predict(model, tmp_path, tiling=Tiling(tile_px=tile_px, overlap="16px")))
    looks_at_the_image = 1 + 1 + 4
    assert len(model.batch_sizes) == looks_at_the_image + 1


def test_what_a_chooser_leaves_out_is_not_looked_at(tmp_path):
    from smidgen.inference.tiling import predict_tiled

    draw(tmp_path / "a.png")
    found = predict_tiled(
        BrightBlobs(64),
        [tmp_path / "a.png"],
        TILING,
        score=0.3,
        max_detections=None,
        batch_size=1,
        device="cpu",
        on_unreadable=pytest.fail,
        on_note=lambda note: None,
        choose=lambda reader, plan: torch.arange(len(plan)) == 0,
    )
    (only,) = found
    assert len(only) > 0 and bool((only.boxes_xyxy[:, 2:] <= 64).all())


def test_settings_stand_in_the_document(tmp_path):
    with predictions_file(tmp_path / "p.json", TILING.described()):
        pass
    document = json.loads((tmp_path / "p.json").read_text())
    assert document["tiling"]["tile_px"] == 64 and document["tiling"]["overlap_px"] == 16


@pytest.mark.parametrize(
    "settings",
    [
        {"overlap": "1.5"},
        {"overlap": "2000px"},
        {"tile_px": 3},
        {"scales": (0.0,)},
        {"scales": (1.0, float("nan"))},
        {"scales": (float("inf"),)},
    ],
)
def test_tilings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError, match="expected"):
        Tiling(**settings)


@pytest.mark.parametrize(("text", "size"), [("2GiB", 2**31), ("1.5gb", 1_500_000_000), ("800 MiB", 800 * 2**20)])
def test_amounts_of_memory(text, size):
    assert memory_in_bytes(text) == size
    for nonsense in ("much", "infMiB"):
        with pytest.raises(ValueError, match=r"2GiB or 800MiB.*--memory"):
            memory_in_bytes(nonsense)


@pytest.mark.parametrize("size_wh", [(600, 200), (200, 600), (330, 330), (100, 90)])
def test_a_large_picture_is_small_and_shows_where_its_insets_lie(tmp_path, size_wh, monkeypatch):
    boxes = draw(tmp_path / "a.png", size_wh)
    (found,) = predict(BrightBlobs(64), tmp_path, tiling=TILING)
    pixels = torch.from_numpy(np.array(Image.open(tmp_path / "a.png"))).permute(2, 0, 1)
    monkeypatch.setattr("smidgen.inference.large_pictures.OVERVIEW_SIDE", 150)
    picture = draw_large(DecodedImage(pixels), found)
    assert len(boxes) and max(picture.size) < 900
    monkeypatch.setattr("smidgen.inference.pictures.LARGEST_SIDE_DRAWN", 50)
    write_picture(found, tmp_path / "out" / "a.png", pixels=PixelRules())
    assert Image.open(tmp_path / "out" / "a.png").size == picture.size


def test_a_picture_shows_a_raster_as_the_model_saw_it(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    values = np.full((5, 60, 80), 200, dtype=np.int16)  # which Pillow cannot decode
    values[1:] *= np.arange(2, 6, dtype=np.int16)[:, None, None]
    file, out = tmp_path / "a.tif", tmp_path / "out" / "a.tif.png"
    with rasterio.open(file, "w", driver="GTiff", count=5, height=60, width=80, dtype="int16") as raster:
        raster.write(values)
    rules = PixelRules(bands=(5, 4, 2), value_range=(0.0, 2000.0))
    (found,) = predict(BrightBlobs(64), file, tiling=replace(TILING, pixels=rules), score=1.0)
    write_picture(found, out, pixels=rules)
    assert Image.open(out).getpixel((20, 20)) == (128, 102, 51)


def test_what_was_looked_at_whole_is_not_too_large_for_a_picture(tmp_path, monkeypatch):
    draw(tmp_path / "a.png")
    (found,) = predict(BrightBlobs(64), tmp_path, tiling=TILING)
    monkeypatch.setattr("smidgen.inference.pictures.LARGEST_SIDE_DRAWN", 50)
    monkeypatch.setattr("smidgen.data.windows.decoded_image.BYTES_OF_A_WHOLE_PIXEL", 2**20)  # as if it were gigapixels
    write_picture(found, tmp_path / "out" / "a.png", pixels=PixelRules())
    assert (tmp_path / "out" / "a.png").is_file()
