"""A detector that finds everything is perfect tile by tile, too, and a guide that sees everything loses nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor, nn

from smidgen.boxes.tiles import TilePlan
from smidgen.data import DetectionDataset, Record
from smidgen.evaluation.tiled import evaluate_tiled
from smidgen.inference import Guide, GuidedTiles, guided_tiling
from smidgen.inference.tiling import Tiling, WindowReader
from smidgen.structures import Classes, Detections, ImageBatch, Preprocessing

CLASSES = Classes(("spot",), (7,))
TILING = Tiling(tile_px=32, overlap="8px")


class Spots(nn.Module):
    """Finds white squares of 4 px on black ground."""

    name = "spots"
    classes = CLASSES

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(preprocessing=Preprocessing(short_side=32, long_side=32))
        self.looks = 0

    def detect(self, images: ImageBatch, original_hw: list[tuple[int, int]]) -> list[Detections]:
        self.looks += len(images)
        return [self._of(pixels[0], size) for pixels, size in zip(images.pixels, original_hw, strict=True)]

    def _of(self, gray: Tensor, size_hw: tuple[int, int]) -> Detections:
        white = nn.functional.pad(gray > 127, (1, 0, 1, 0))
        corners = white[1:, 1:] & ~white[:-1, 1:] & ~white[1:, :-1]
        top, left = corners.nonzero(as_tuple=True)
        boxes = torch.stack([left, top, left + 4, top + 4], 1).float()
        count = len(boxes)
        return Detections(boxes, torch.full((count,), 0.9), torch.zeros(count, dtype=torch.int64), size_hw)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    """Two images of 100 x 90 px with spots at known places, one of them under a seam."""
    folder, records = tmp_path_factory.mktemp("spots"), []
    for number, places in enumerate([[(5, 5), (40, 26), (80, 60)], [(50, 50)]]):
        pixels = np.zeros((100, 90), dtype=np.uint8)
        for top, left in places:
            pixels[top : top + 4, left : left + 4] = 255
        Image.fromarray(pixels).save(folder / f"{number}.png")
        boxes = np.array([[left, top, left + 4, top + 4] for top, left in places], dtype=np.float32)
        labels = np.zeros(len(places), dtype=np.int64)
        empty = np.zeros((0, 4), dtype=np.float32)
        records.append(Record(folder / f"{number}.png", number + 1, (100, 90), boxes, labels, empty))
    return DetectionDataset(folder, "test", "val", CLASSES, records)


def test_all_tiles(dataset: DetectionDataset) -> None:
    found = evaluate_tiled(Spots(), dataset, TILING)
    assert found.metrics["AP"] == pytest.approx(1.0)
    assert found.settings["tiling"]["tile_px"] == 32 and found.settings["skipped"] == []
    assert {result["category_id"] for result in found.predictions} == {7}


def test_the_tiles_stand_beside_the_figures(dataset: DetectionDataset) -> None:
    notes: list[str] = []
    flipped = Tiling(tile_px=32, overlap="8px", flips=True, scales=(1.0, 1.5))
    headline = evaluate_tiled(Spots(), dataset, flipped, on_note=notes.append).table().splitlines()[:6]
    told = "looked at in tiles of 32 px that overlap by 8 px; merged by nms; flips; scales 1, 1.5"
    assert told in headline and any("scores from 0.01" in line for line in headline)
    assert notes[0].startswith("memory above the model")


def test_a_guides_choice_stands_there_too(dataset: DetectionDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guided_tiling, "why_no_object_maps", lambda model: None)
    monkeypatch.setattr(guided_tiling, "object_maps", lambda model, images: [])
    found = evaluate_tiled(Spots(), dataset, TILING, choose=GuidedTiles(Spots(), Guide()))
    assert found.metrics["AP"] == 0 and found.settings["guide"]["looked_at"] == 0
    assert f"at 0 of {found.settings['guide']['tiles']} tiles, by a guide" in found.table()


def test_the_right_tiles(dataset: DetectionDataset) -> None:
    def choose(reader: WindowReader, plan: TilePlan) -> Bool[Tensor, " T"]:
        windows = [reader.read((x0, y0, x1, y1)) for x0, y0, x1, y1 in plan.windows_xyxy.tolist()]
        return torch.tensor([window is not None and bool(window.any()) for window in windows])

    everywhere, chosen = Spots(), Spots()
    evaluate_tiled(everywhere, dataset, TILING)
    assert evaluate_tiled(chosen, dataset, TILING, choose=choose).metrics["AP"] == pytest.approx(1.0)
    assert chosen.looks < everywhere.looks / 2


def test_an_unreadable_image_is_named(dataset: DetectionDataset) -> None:
    broken = Record(Path("none.png"), 9, (10, 10), *_nothing())
    found = evaluate_tiled(Spots(), DetectionDataset(Path(), "", "val", CLASSES, [*dataset.records, broken]), TILING)
    assert found.settings["skipped"] == ["none.png"]


def _nothing() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros((0, 4), np.float32)
