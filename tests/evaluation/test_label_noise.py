from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from detection_cases import random_case
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.evaluation import load_protocol, score
from smidgen.evaluation.annotations import GroundTruth, Results, read_ground_truth, read_results
from smidgen.evaluation.label_noise import jittered, label_noise

PROTOCOL = load_protocol("aitod")


def columns(seed: int, images: int = 6) -> tuple[GroundTruth, Results]:
    ground_truth, predictions = random_case(seed, images=images)
    truth = read_ground_truth(ground_truth)
    return truth, read_results(predictions, truth)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3]), st.booleans())
def test_edges_move_by_that_much_and_boxes_stay_boxes(seed: int, pixels: int, normal: bool):
    truth, _ = columns(seed)
    moved = jittered(truth, np.random.default_rng(seed), pixels=pixels, normal=normal)
    assert (moved.boxes_xywh[:, 2:] >= 1).all() and moved.area.tolist() == truth.area.tolist()
    assert moved.boxes_xywh[truth.crowd].tolist() == truth.boxes_xywh[truth.crowd].tolist()
    if not normal:
        low = moved.boxes_xywh[:, :2] - truth.boxes_xywh[:, :2]
        assert (np.abs(low) <= pixels).all() and (low == np.round(low)).all()
        assert (np.abs(moved.boxes_xywh[:, 2:] - truth.boxes_xywh[:, 2:]) <= 2 * pixels).all()


def test_boxes_below_a_pixel_do_not_grow_or_vanish():
    truth, _ = columns(1)
    tiny = replace(truth, boxes_xywh=np.concatenate([truth.boxes_xywh[:, :2], truth.boxes_xywh[:, 2:] * 0 + 0.5], 1))
    assert (jittered(tiny, np.random.default_rng(0)).boxes_xywh[:, 2:] >= 0.5).all()


def test_without_noise_it_is_the_protocols_ap_and_perfect_boxes_are_perfect():
    ground_truth, predictions = random_case(7)
    truth = read_ground_truth(ground_truth)
    noise = label_noise(truth, read_results(predictions, truth), PROTOCOL, pixels=0, seeds=2)
    metrics = score(ground_truth, predictions, PROTOCOL).metrics
    for one, name in zip(noise.by_size, ("AP", "APvt", "APt", "APs", "APm"), strict=True):
        assert one.exact == pytest.approx(metrics[name])
        assert one.noisy.tolist() == [one.exact] * 2 and one.spread == 0
        assert (one.ceiling, one.iou) == pytest.approx((1, 1) if one.objects else (-1, -1))


def test_small_objects_suffer_more_and_seeds_decide():
    truth, results = columns(3, images=40)
    noise = label_noise(truth, results, PROTOCOL, seeds=4)
    by_size = {one.size: one for one in noise.by_size}
    assert by_size["verytiny"].ceiling < by_size["small"].ceiling <= 1
    assert by_size["verytiny"].iou < by_size["tiny"].iou < by_size["small"].iou < 1
    assert by_size["all"].spread > 0
    again = label_noise(truth, results, PROTOCOL, seeds=4)
    assert again.to_json() == noise.to_json()
    assert (
        label_noise(truth, results, PROTOCOL, seeds=4, normal=True).to_json()["by_size"] != noise.to_json()["by_size"]
    )
