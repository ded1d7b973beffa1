from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.evaluation.window_merging import WindowPlace, merge_windows, read_windows

IMAGES = [{"id": 7, "file_name": "scene.jpg"}, {"id": 8, "file_name": "street.jpg"}]


def detection(image: int, bbox: list[float], score: float, category: int = 1) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": bbox, "score": score}


def place(image: int, left: float, top: float, *, file: str = "", scale: float = 1.0) -> WindowPlace:
    return WindowPlace(file=file, image_id=image, left=left, top=top, scale=scale)


PLACES = {
    0: place(7, 0, 0),
    1: place(7, 650, 0),
    2: place(8, 650, 100),
}


def test_an_object_in_the_overlap_is_kept_once_with_the_better_score():
    merged = merge_windows([detection(0, [700, 10, 20, 20], 0.6), detection(1, [51, 10, 20, 20], 0.9)], PLACES)
    assert merged == [detection(7, [701, 10, 20, 20], 0.9)]


def test_other_classes_images_and_lesser_overlaps_stay():
    results = [
        detection(0, [700, 10, 20, 20], 0.9),
        detection(1, [50, 10, 20, 20], 0.8, category=2),
        detection(2, [50, -90, 20, 20], 0.7),
        detection(1, [60, 10, 20, 20], 0.6),  # a third of the joint area with the first
    ]
    merged = merge_windows(results, PLACES)
    assert [one["score"] for one in merged] == [0.9, 0.8, 0.7, 0.6]
    assert [one["bbox"] for one in merged] == [[700, 10, 20, 20]] * 3 + [[710, 10, 20, 20]]
    assert [one["image_id"] for one in merged] == [7, 7, 8, 7]


def test_boxes_of_resized_windows_shrink_before_they_move():
    places = {0: place(7, 650, 1300, scale=1.5)}
    assert merge_windows([detection(0, [30, 60, 15, 12], 0.5)], places) == [detection(7, [670, 1340, 10, 8], 0.5)]


@given(st.integers(0, 10_000), st.integers(0, 40))
def test_no_two_survivors_overlap_and_every_other_is_covered(seed: int, count: int):
    rng = np.random.default_rng(seed)
    results = [
        detection(
            int(rng.integers(0, 3)),
            [*rng.uniform(0, 60, 2).tolist(), *rng.uniform(5, 30, 2).tolist()],
            float(rng.random()),
            int(rng.integers(1, 3)),
        )
        for _ in range(count)
    ]
    merged = merge_windows(results, PLACES)
    assert merge_windows_again(merged) == merged
    scores = [one["score"] for one in merged]
    assert scores == sorted(scores, reverse=True)
    for group in {(one["image_id"], one["category_id"]) for one in merged}:
        boxes = [one["bbox"] for one in merged if (one["image_id"], one["category_id"]) == group]
        assert all(overlap(a, b) <= 0.5 for index, a in enumerate(boxes) for b in boxes[:index])


def merge_windows_again(merged: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return merge_windows(merged, {image: place(image, 0, 0) for image in (7, 8)})


def overlap(a: list[float], b: list[float]) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def table(folder: Path, **lists: list[dict[str, Any]]) -> Path:
    path = folder / "windows.json"
    path.write_text(json.dumps(lists))
    return path


def test_places_are_read_as_sodas_tool_and_dotas_kit_write_them(tmp_path: Path):
    images = [
        {"id": 1, "file_name": "scene_0.jpg", "ori_id": 7, "start_coord": [650, 1300]},
        {"id": 2, "file_name": "street__1.5__300___450.png"},
        {"id": 3, "file_name": "windows/street__800__300___450.png"},
    ]
    assert read_windows(table(tmp_path, images=images), IMAGES, scale=2.0) == {
        1: place(7, 650, 1300, file="scene_0.jpg", scale=2.0),
        2: place(8, 200, 300, file="street__1.5__300___450.png", scale=3.0),
        3: place(8, 300, 450, file="windows/street__800__300___450.png", scale=2.0),
    }


def test_places_are_read_as_our_own_tiling_writes_them(tmp_path: Path):
    row = {"image_id": 1, "file": "scene_0.jpg", "original_image_id": 7, "left": 650, "top": 0, "scale": 1.5}
    assert read_windows(table(tmp_path, windows=[row]), IMAGES) == {1: place(7, 650, 0, file="scene_0.jpg", scale=1.5)}
    with pytest.raises(ValueError, match=r"every window of .* to have 'left'"):
        read_windows(table(tmp_path, windows=[{"image_id": 1, "original_image_id": 7}]), IMAGES)


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ({"id": 1, "file_name": "a.jpg"}, "start_coord and ori_id, or to be named NAME__RATE__LEFT___TOP"),
        ({"id": 1, "file_name": "desert__1__0___0.jpg"}, r"does not have \('desert'\); expected 7, 8"),
        ({"file_name": "scene__1__0___0.jpg"}, "to have 'id'"),
    ],
)
def test_what_is_no_table_is_refused(window: dict[str, Any], said: str, tmp_path: Path):
    with pytest.raises(ValueError, match=said):
        read_windows(table(tmp_path, images=[window]), IMAGES)
    with pytest.raises(ValueError, match="to list windows"):
        read_windows(table(tmp_path, others=[window]), IMAGES)


def test_detections_of_no_window_are_refused():
    with pytest.raises(ValueError, match=r"no windows \(99\).*0, 1, 2"):
        merge_windows([detection(99, [0, 0, 1, 1], 0.5)], PLACES)
    assert merge_windows([], PLACES) == []
