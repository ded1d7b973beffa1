from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from detection_cases import random_case
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.evaluation import score
from smidgen.evaluation.comparison import CANNOT_TELL, compare

Results = list[dict[str, Any]]


def planted(images: int = 40, seed: int = 0) -> tuple[dict[str, Any], Results]:
    """Ground truth of two boxes per image, 8 and 40 px large, and perfect results for it."""
    rng = np.random.default_rng(seed)
    annotations, results = [], []
    for image in range(images):
        for side, left in ((8.0, 0.0), (40.0, 50.0)):
            box = [left, 5.0, side, side]
            entry = {"image_id": image, "category_id": 1, "bbox": box}
            annotations.append({"id": len(annotations) + 1, "area": side**2, "iscrowd": 0, **entry})
            results.append({**entry, "score": float(rng.uniform(0.5, 1.0))})
    pictures = [{"id": image, "width": 100, "height": 60} for image in range(images)]
    return {"images": pictures, "annotations": annotations, "categories": [{"id": 1, "name": "one"}]}, results


def without(results: Results, share: float, side: float, seed: int = 1) -> Results:
    """Results that miss a share of the objects of this side."""
    rng = np.random.default_rng(seed)
    return [one for one in results if one["bbox"][2] != side or rng.random() >= share]


def test_equal_runs_differ_by_exactly_nothing():
    truth, results = random_case(3, images=20)
    _, other = compare(truth, {"a": [results], "b": [list(results)]}, samples=50).systems
    for difference in other.differences.values():
        assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)
        assert (difference.better, difference.equal, difference.verdict) == (0.0, 1.0, CANNOT_TELL)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["coco", "visdrone", "soda_d", "widerperson"]))
def test_figures_are_those_of_the_protocol(seed: int, protocol: str):
    truth, results = random_case(seed, images=8)
    rng = np.random.default_rng(seed)
    results = [{**one, "score": float(rng.random())} for one in results]  # numpy sorts ties as it likes
    if not any(not entry["iscrowd"] for entry in truth["annotations"]):
        return
    (system,) = compare(truth, {"a": [results]}, protocol, samples=3).systems
    expected = score(truth, results, protocol).metrics
    assert system.figures
    for metric, estimate in system.figures.items():
        assert estimate.value == pytest.approx(expected[metric], abs=1e-12) and estimate.by_run == (estimate.value,)


@pytest.mark.parametrize(("protocol", "objects"), [("visdrone", 60), ("soda_d", 40), ("widerperson", 40)])
def test_objects_are_those_that_the_protocol_judges(protocol: str, objects: int):
    """Of 80: VisDrone's regions take out 20, SODA-D's AP is over 40 small ones, and 40 are over 20 px high."""
    truth, results = planted()
    regions = [{"image_id": image, "bbox": [0, 0, 30, 60], "iscrowd": 1} for image in range(20)]
    found = compare({**truth, "annotations": truth["annotations"] + regions}, {"a": [results]}, protocol, samples=2)
    assert found.objects["AP"] == objects
    assert found.systems[0].figures["AP"].value == pytest.approx(100.0 if protocol == "visdrone" else 1.0)


def test_what_is_worse_on_small_objects_is_found_there_and_only_there():
    truth, good = planted()
    found = compare(truth, {"good": [good], "bad": [without(good, 0.4, 8.0)]}, samples=100)
    assert found.metrics == ("AP", "AP50", "AP75", "APs", "APm")
    bad = found.systems[1].differences
    assert bad["APs"].verdict == "worse" and bad["APs"].high < 0 and bad["APs"].better == 0.0
    assert bad["APm"].verdict == CANNOT_TELL and bad["APm"].equal == 1.0
    assert found.objects["APs"] == found.objects["APm"] == 40
    assert found.size_in_words("APs") == "up to 32 px" and found.size_in_words("APm") == "32 to 96 px"


def test_the_pairing_sees_what_separate_intervals_do_not():
    truth, good = planted()
    noisy = without(good, 0.5, 40.0)
    slightly = without(noisy, 0.12, 8.0)
    first, second = compare(truth, {"a": [noisy], "b": [slightly]}, metrics=["AP50"], samples=200).systems
    a, b, difference = first.figures["AP50"], second.figures["AP50"], second.differences["AP50"]
    assert b.high > a.low, "the intervals of the two overlap"
    assert difference.verdict == "worse" and difference.high - difference.low < b.high - b.low


def test_better_when_the_other_way_round():
    truth, good = planted()
    better = compare(truth, {"bad": [without(good, 0.4, 8.0)], "good": [good]}, samples=50).systems[1]
    assert better.differences["AP"].verdict == "better" and better.differences["AP"].better == 1.0


def test_seeds_are_averaged_and_widen_the_interval():
    truth, good = planted()
    weak = without(good, 0.6, 8.0)
    apart = compare(truth, {"x": [good, weak, good, weak]}, metrics=["AP50"], samples=200).systems[0].figures["AP50"]
    alike = compare(truth, {"x": [weak] * 4}, metrics=["AP50"], samples=200).systems[0].figures["AP50"]
    assert apart.value == pytest.approx(np.mean(apart.by_run)) and len(set(apart.by_run)) == 2
    assert apart.spread == pytest.approx(np.std(apart.by_run, ddof=1)) and alike.spread == 0.0
    assert apart.high - apart.low > 1.5 * (alike.high - alike.low)


def test_what_the_intervals_do_not_say():
    truth, good = planted(6)
    one, two = [good], [good, good]
    assert "A run of one seed" in compare(truth, {"a": one}, metrics=["AP"], samples=2).cautions()[0]
    assert "Fewer than five seeds" in compare(truth, {"a": two}, metrics=["AP"], samples=2).cautions()[0]
    many = compare(truth, {"a": [good] * 5, "b": [good] * 5}, metrics=["AP"], samples=2)
    assert many.cautions() == []
    assert (
        "Each of the 2 intervals"
        in compare(truth, {"a": one, "b": one, "c": one}, metrics=["AP"], samples=2).cautions()[1]
    )


def test_the_document_is_plain_and_depends_on_the_seed_alone():
    truth, results = random_case(5, images=12)
    systems = {"a": [results], "b": [results[::2]]}
    document = json.dumps(compare(truth, systems, samples=20).to_json(), allow_nan=False)
    assert document == json.dumps(compare(truth, systems, samples=20).to_json())
    assert document != json.dumps(compare(truth, systems, samples=20, seed=1).to_json())
    assert json.loads(document)["baseline"] == "a" and json.loads(document)["protocol"] == "coco@1"


def test_mistakes_are_explained():
    truth, results = planted(3)
    with pytest.raises(ValueError, match="expected average precisions of coco@1"):
        compare(truth, {"a": [results]}, metrics=["AR100"])
    with pytest.raises(ValueError, match="with objects to compare on"):
        compare({**truth, "annotations": []}, {"a": [results]})
    with pytest.raises(ValueError, match="not in the ground truth"):
        compare(truth, {"a": [[{**results[0], "image_id": 99}]]}, samples=2)
    with pytest.raises(ValueError, match="at least 1 sample"):
        compare(truth, {"a": []})
