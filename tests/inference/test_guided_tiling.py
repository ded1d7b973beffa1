"""Guided tiling: a tile is looked at where the maps see something above its core, and nothing else is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from smidgen.boxes.tiles import TilePlan
from smidgen.data.windows import DecodedImage
from smidgen.inference import guided_tiling
from smidgen.inference.guide_recall import GuideScores
from smidgen.inference.guided_tiling import Guide, GuidedTiles, chosen_tiles
from smidgen.inference.object_maps import ObjectMap, object_maps
from smidgen.models import create_model
from smidgen.structures import ImageBatch, Preprocessing


class Dark(nn.Module):
    """Its map is the brightness of each 4 x 4 cell."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(preprocessing=Preprocessing(short_side=32, long_side=32))


def brightness(model: nn.Module, images: ImageBatch) -> list[ObjectMap]:
    gray = images.pixels[:, 0].float() / 255
    return [ObjectMap(nn.functional.max_pool2d(gray[:, None], 4, ceil_mode=True)[0, 0], (4.0, 4.0))]


@pytest.fixture(autouse=True)
def maps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guided_tiling, "object_maps", brightness)
    monkeypatch.setattr(guided_tiling, "why_no_object_maps", lambda model: None)


def image_with(points: list[tuple[int, int]], size_hw: tuple[int, int]) -> DecodedImage:
    """Black, with a white square of 4 px at each (top, left)."""
    pixels = torch.zeros((3, *size_hw), dtype=torch.uint8)
    for top, left in points:
        pixels[:, top : top + 4, left : left + 4] = 255
    return DecodedImage(pixels)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(40, 150), st.integers(40, 150)),
    st.lists(st.tuples(st.floats(0, 0.95), st.floats(0, 0.95)), max_size=3),
    st.sampled_from([1.0, 0.5]),
    st.integers(32, 80),
)
@example((40, 58), [(0.0, 0.484375)], 1.0, 32)  # cells of two blocks that do not meet at the border of their cores
def test_the_tile_that_answers_for_an_object_is_looked_at(
    size_hw: tuple[int, int], places: list[tuple[float, float]], scale: float, block: int
) -> None:
    points = [(int(y * (size_hw[0] - 4)), int(x * (size_hw[1] - 4))) for y, x in places]
    plan = TilePlan(size_hw, 32, 8)
    guided = GuidedTiles(Dark(), Guide(scale=scale, threshold=0.1, block_px=block))
    chosen = guided(image_with(points, size_hw), plan)
    boxes = torch.tensor([[x, y, x + 4, y + 4] for y, x in points], dtype=torch.float32).reshape(-1, 4)
    assert chosen[plan.owners(boxes)].all()
    assert chosen.any() == bool(points)


def test_nothing_far_from_an_object_is_looked_at() -> None:
    plan = TilePlan((320, 320), 32, 8)
    guided = GuidedTiles(Dark(), Guide(scale=0.5, threshold=0.1, block_px=64))
    chosen = guided(image_with([(100, 200)], (320, 320)), plan)
    centers = (plan.cores_xyxy[:, :2] + plan.cores_xyxy[:, 2:]) / 2
    distance = (centers - torch.tensor([202.0, 102.0])).abs().amax(1)
    assert chosen.any() and distance[chosen].max() < 32
    assert (guided.num_tiles, guided.num_chosen) == (len(plan), int(chosen.sum()))


def test_a_limited_share_takes_the_best_tiles() -> None:
    scores = torch.tensor([0.2, 0.9, 0.5, 0.05])
    assert chosen_tiles(scores, Guide(threshold=0.1)).tolist() == [True, True, True, False]
    assert chosen_tiles(scores, Guide(threshold=0.1, share=0.5)).tolist() == [False, True, True, False]
    assert chosen_tiles(scores, Guide(threshold=0.6, share=0.5)).tolist() == [False, True, False, False]


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=50), st.floats(0.05, 1))
def test_the_chosen_threshold_keeps_the_recall_and_the_next_higher_one_does_not(
    values: list[float], recall: float
) -> None:
    objects = torch.tensor(values)
    choice = GuideScores(objects, torch.cat([objects, torch.zeros(9)])).choose(recall)
    assert (objects >= choice.threshold).double().mean() >= recall
    higher = objects[objects >= choice.threshold + 1e-6]
    assert not len(higher) or choice == GuideScores(objects, torch.cat([objects, torch.zeros(9)])).choose(choice.recall)
    above = [point for point in choice.curve if point.threshold > choice.threshold]
    assert all(point.recall < recall for point in above)


def test_no_objects_no_choice() -> None:
    with pytest.raises(ValueError, match="images with objects"):
        GuideScores(torch.zeros(0), torch.zeros(3)).choose(0.99)


@pytest.mark.parametrize(
    "values", [{"scale": 0.0}, {"scale": 2.0}, {"share": 0.0}, {"block_px": 8}, {"threshold": float("nan")}]
)
def test_settings_out_of_range_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Guide(**values)


@pytest.mark.parametrize("system", ["query_det_nano", "salience_detr_nano"])
def test_both_systems_give_maps_that_span_the_image(system: str) -> None:
    model = create_model(system, num_classes=2).eval()
    images = ImageBatch.collate([torch.randint(0, 255, (3, 64, 96), dtype=torch.uint8)], 32)
    with torch.inference_mode():
        found = object_maps(model, images)
    assert found
    for one in found:
        height, width = (cells * side for cells, side in zip(one.scores.shape, one.cell_hw, strict=True))
        assert 64 <= height < 64 + one.cell_hw[0] and 96 <= width < 96 + one.cell_hw[1]
        assert one.scores.max() <= 1


def test_a_model_without_maps_is_refused() -> None:
    with pytest.raises(ValueError, match="neither a query head"):
        object_maps(nn.Linear(1, 1), ImageBatch.collate([torch.zeros(3, 32, 32, dtype=torch.uint8)]))
