from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from square_scenes import HEIGHT, WIDTH, SharpEye, square_scenes

from smidgen.data import DetectionDataset
from smidgen.evaluation.shrunk_view import area_average
from smidgen.evaluation.size_sweep import SizeSweep, sweep_size
from smidgen.structures import Classes

SCALES = (1.0, 0.63, 0.4)
BIN = 2 ** (1 / 3)


@pytest.fixture
def scenes(tmp_path: Path) -> DetectionDataset:
    return square_scenes(tmp_path)


def sweep(model: SharpEye, scenes: DetectionDataset, **options: object) -> SizeSweep:
    return sweep_size(model, scenes, **{"scales": SCALES, "samples": 50, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("least_side", [5.0, 9.0])
def test_the_step_of_the_curve_is_where_it_was_planted(scenes: DetectionDataset, least_side: float):
    model = SharpEye(least_side)
    found = sweep(model, scenes)
    for row in found.rows():
        if row["side_high_px"] < least_side * 0.98:
            assert row["recall"] == 0.0, row
        if row["side_low_px"] > least_side * 1.02:
            assert row["recall"] == 1.0, row
    for side in found.sides:
        assert side.plateau == 1.0
        assert least_side / BIN < side.low <= side.side_px <= side.high < least_side * BIN
    assert found.sides[0].side_px < found.sides[1].side_px
    assert model.canvases == {(HEIGHT, WIDTH)}, "shrunk images lie on the same canvas"


def test_the_answer_in_words(scenes: DetectionDataset):
    found = sweep(SharpEye(9.0), scenes)
    assert found.context is not None and abs(found.context.value) < 0.05
    words = found.in_words()
    assert "50% of its plateau (recall 0.50 of 1.00) at a side of" in words[0] and "95 % interval" in words[0]
    assert "At equal side" in words[2] and "may be chance" in words[2]
    words = sweep(SharpEye(0.1), scenes).in_words()
    assert "px or less, the smallest measured" in words[0]


def test_what_sees_nothing_never_reaches_its_plateau(scenes: DetectionDataset):
    found = sweep(SharpEye(1000.0), scenes)
    assert all(side.side_px == np.inf for side in found.sides)
    assert "never reaches" in found.in_words()[0] and "nothing is found" in found.in_words()[0]
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["sides"][0]["status"] == "never" and document["sides"][0]["side_px"] is None


def test_context_is_told_apart_from_size(scenes: DetectionDataset):
    found = sweep(SharpEye(4.0, only_whole=True), scenes)
    assert found.context is not None and found.context.value == pytest.approx(1.0)
    assert "surroundings matter" in found.in_words()[-1]
    whole, *shrunk = found.curves
    assert whole.recall[whole.objects > 0].min() == 1.0
    assert all(not curve.found.any() for curve in shrunk)


def test_pooled_counts_are_those_of_all_scales(scenes: DetectionDataset):
    found = sweep(SharpEye(6.0), scenes)
    assert np.array_equal(found.pooled.objects, sum(curve.objects for curve in found.curves))
    assert found.pooled.objects.sum() == found.objects == 3 * sum(len(record) for record in scenes.records)


def test_regions_to_ignore_are_no_objects(scenes: DetectionDataset):
    whole = np.array([[0, 0, WIDTH, HEIGHT]], np.float32)
    regions = replace(scenes, records=tuple(replace(record, ignore_xyxy=whole) for record in scenes.records))
    assert sweep(SharpEye(6.0), regions).rows() == sweep(SharpEye(6.0), scenes).rows()


def test_broken_images_are_left_out_and_named(scenes: DetectionDataset):
    scenes.records[1].file.write_bytes(b"no picture")
    steps: list[int] = []
    found = sweep(SharpEye(6.0), scenes, progress=lambda done, _: steps.append(done))
    assert found.images == 5 and steps == [1, 2, 3, 4, 5, 6]
    assert len(found.skipped) == 1 and "1.png" in found.skipped[0]
    without = replace(scenes, records=(scenes.records[0], *scenes.records[2:]))
    assert sweep(SharpEye(6.0), without).rows() == found.rows()


def test_all_images_broken_or_empty(scenes: DetectionDataset):
    for record in scenes.records:
        record.file.write_bytes(b"")
    found = sweep(SharpEye(6.0), scenes)
    assert found.images == 0 and found.in_words() == ["There is no object to look for in these images."]
    json.dumps(found.to_json(), allow_nan=False)


def test_classes_that_the_model_does_not_know_are_left_out(scenes: DetectionDataset):
    found = sweep(SharpEye(0.1, Classes(("blue",), (0,))), scenes)
    assert found.absent_classes == ("red",)
    assert found.objects == 3 * sum(int((record.labels == 1).sum()) for record in scenes.records)
    assert found.pooled.found.sum() == found.objects


def test_a_detection_finds_one_object_of_its_class_at_its_score(scenes: DetectionDataset):
    assert not sweep(SharpEye(0.1), scenes, score=0.95).pooled.found.any()
    record = scenes.records[0]
    twice = replace(
        record,
        boxes_xyxy=np.concatenate([record.boxes_xyxy, record.boxes_xyxy]),
        labels=np.concatenate([record.labels, record.labels]),
    )
    found = sweep(SharpEye(0.1), replace(scenes, records=(twice,)))
    assert found.pooled.found.sum() * 2 == found.objects


@pytest.mark.parametrize("wrong", [{"scales": (1.5,)}, {"scales": ()}, {"score": 2.0}, {"iou": 0.0}, {"samples": 0}])
def test_settings_out_of_range_are_refused(scenes: DetectionDataset, wrong: dict[str, object]):
    with pytest.raises(ValueError, match="expected"):
        sweep(SharpEye(6.0), scenes, **wrong)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.data())
def test_area_average_is_the_mean_of_the_covered_rectangle(height: int, width: int, data: st.DataObject):
    size_hw = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    # Every pixel as a block of size_hw: the covered rectangles are then whole blocks of the finer image.
    fine = image.double().repeat_interleave(size_hw[0], 1).repeat_interleave(size_hw[1], 2)
    expected = fine.reshape(3, size_hw[0], height, size_hw[1], width).mean(dim=(2, 4))
    assert (area_average(image, size_hw).double() - expected).abs().max() <= 0.5 + 1e-9
