from __future__ import annotations

import numpy as np
import pytest
from detection_cases import random_case
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.evaluation import load_protocol
from smidgen.evaluation.annotations import read_ground_truth, read_results
from smidgen.evaluation.engine import Engine
from smidgen.evaluation.precision_recall import best_operating_point, precision_recall

PROTOCOL = load_protocol("aitod")
HALF = np.array([0.5])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_curves_are_the_engines(seed: int):
    ground_truth, predictions = random_case(seed)
    truth = read_ground_truth(ground_truth)
    results = read_results(predictions, truth)
    areas = PROTOCOL.areas
    engine = Engine(truth, results)
    matchings = {size: engine.match(thresholds=HALF, area=area, limit=1500) for size, area in areas.items()}
    curves = precision_recall(truth, results, matchings, 0.5)
    expected = engine.judge(thresholds=HALF, areas=list(areas.values()), limits=[1500]).precision[0, ..., 0]
    for index, size in enumerate(areas):
        of_size = [curve for curve in curves.by_class if curve.size == size]
        assert [curve.label for curve in of_size] == list(truth.names)
        for category, curve in enumerate(of_size):
            values = expected[:, category, index]
            assert curve.objects == (0 if values[0] == -1 else curve.objects)
            if curve.objects:
                assert curve.precision == pytest.approx(values, abs=1e-9)
        present = expected[:, expected[0, :, index] > -1, index]
        if present.size:
            assert curves.mean(size).mean() == pytest.approx(present.mean(), abs=1e-9)


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=12), st.integers(1, 9))
def test_best_f1_is_the_best_of_all_thresholds(listed: list[tuple[int, bool]], extra: int):
    listed = sorted(listed, key=lambda entry: -entry[0])
    scores, hit = np.array([s for s, _ in listed], float), np.array([h for _, h in listed], bool)
    objects = int(hit.sum()) + extra
    best = best_operating_point(scores, hit, objects)
    if not hit.any():
        assert best is None
        return
    assert best is not None
    values = {t: 2 * hit[scores >= t].sum() / ((scores >= t).sum() + objects) for t in set(scores.tolist())}
    assert best.f1 == pytest.approx(max(values.values())) and best.f1 == pytest.approx(values[best.score])
    kept = scores >= best.score
    assert best.precision == pytest.approx(hit[kept].mean())
    assert best.recall == pytest.approx(hit[kept].sum() / objects)


def test_without_objects_there_is_no_curve():
    truth = read_ground_truth({"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1, "name": "a"}]})
    results = read_results([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2], "score": 0.5}], truth)
    matching = Engine(truth, results).match(thresholds=HALF, area=(0, 1e10), limit=9)
    curves = precision_recall(truth, results, {"all": matching}, 0.5)
    assert curves.by_class[0].average_precision == -1 and curves.of_size("all") == ()
    assert np.isnan(curves.mean("all")).all()
    assert curves.to_json()["mean_precision"] == {} and curves.to_json()["pooled"][0]["best_f1"] is None
