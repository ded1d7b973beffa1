"""Tiles share what was asked for, else what the objects of the training need; both say why."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from bright_blobs import BrightBlobs
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from smidgen.boxes.tiles import TiledSide
from smidgen.inference import Tiling, predict
from smidgen.inference.tiling.overlap import LEAST_PX, chosen_overlap, overlap_in_pixels
from smidgen.structures import ObjectSizes


def sizes(percentile_99_px: float) -> ObjectSizes:
    return ObjectSizes(count=300, median_px=9.5, percentile_99_px=percentile_99_px, largest_px=2 * percentile_99_px)


@pytest.mark.parametrize(("overlap", "pixels"), [(0.2, 205), ("0.25", 256), ("200px", 200), (0, 0)])
def test_overlap_is_a_share_or_pixels(overlap: float | str, pixels: int) -> None:
    assert overlap_in_pixels(overlap, 1024) == pixels
    assert chosen_overlap(overlap, sizes(500), 1024).pixels == pixels


@pytest.mark.parametrize(
    ("objects", "pixels", "reason"),
    [
        (None, 205, "20% of a tile: the model does not know how large its objects are; --overlap tells it"),
        (sizes(47.3), 48, "99% of 300 objects in training are at most 47.3 px long"),
        (sizes(6), LEAST_PX, "99% of 300 objects in training are at most 6 px long"),
        (sizes(512.5), 512, "half a tile: 99% of 300 objects in training are at most 512.5 px long; use a larger"),
    ],
)
def test_what_is_not_asked_for_follows_from_the_objects(objects: ObjectSizes | None, pixels: int, reason: str) -> None:
    chosen = chosen_overlap(None, objects, 1024)
    assert chosen.pixels == pixels and chosen.reason.startswith(reason)


@given(st.floats(0.5, 3000), st.integers(16, 2048), st.integers(1, 5000), st.floats(0, 1))
def test_objects_that_the_overlap_is_made_for_are_whole_in_a_tile(
    percentile_99_px: float, tile_px: int, extent_px: int, place: float
) -> None:
    tiling = Tiling(tile_px=tile_px, objects=sizes(percentile_99_px))
    assert tiling.overlap_px <= tile_px / 2
    side = TiledSide(extent_px, tile_px, tiling.overlap_px)
    length = min(percentile_99_px, tiling.overlap_px, extent_px)
    low = place * (extent_px - length)
    assert any(start <= low and low + length <= start + side.length_px for start in side.starts)


def test_a_models_objects_decide_unless_others_are_given() -> None:
    model, unknown = SimpleNamespace(object_sizes=sizes(30)), SimpleNamespace()
    assert Tiling().for_model(model).overlap_px == 30
    assert Tiling().for_model(unknown) == Tiling(overlap=None) and Tiling().overlap_px == 205
    assert Tiling(objects=sizes(70)).for_model(model).overlap_px == 70
    assert Tiling(overlap=0.1).for_model(model).overlap_px == 102


def test_what_was_chosen_is_said_and_written_down(tmp_path: Path) -> None:
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    model, notes = BrightBlobs(64), list[str]()
    model.object_sizes = sizes(20)  # type: ignore[assignment]
    looked = list(predict(model, tmp_path / "a.png", tiling=Tiling(tile_px=64), on_note=notes.append))
    assert len(looked) == 1 and len(model.batch_sizes) == 1 + len(Tiling(tile_px=64, overlap="20px").plan((100, 200)))
    assert re.search(r"memory .*; tiles overlap by 20 px \(99% of 300 objects in training are at most 20 px", notes[0])
    described = Tiling(tile_px=64).for_model(model).described()
    assert (described["overlap_px"], "objects" in described) == (20, False)
    assert described["overlap"] == "99% of 300 objects in training are at most 20 px long"
    assert Tiling(overlap="20px").described()["overlap"] == "20px"
