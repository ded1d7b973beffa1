from __future__ import annotations

import hotcoco
import numpy as np
import pytest
from detection_cases import random_case
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.evaluation import load_protocol
from smidgen.evaluation.annotations import GroundTruth, Results, read_ground_truth, read_results
from smidgen.evaluation.error_types import ERROR_TYPES, RIGHT, SPECIAL_TYPES, WRONG_TYPES, error_types, find_errors
from smidgen.evaluation.overlap import intersection_over_union

COCO = load_protocol("coco")
seeds = st.integers(0, 2**32 - 1)


def confusing_case(seed: int, *, crowds: bool = True) -> tuple[dict, list[dict]]:
    """Random detections without ties; some have a wrong class, so that every type of error occurs."""
    ground_truth, predictions = random_case(seed, images=8)
    rng = np.random.default_rng(seed)
    for annotation in ground_truth["annotations"]:
        annotation["bbox"] = (np.array(annotation["bbox"]) + rng.random(4) / 8).tolist()
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
        annotation["ignore"] = 0
        annotation["iscrowd"] *= crowds
    ids = [category["id"] for category in ground_truth["categories"]]
    for entry in predictions:
        entry["bbox"] = (np.array(entry["bbox"]) + rng.random(4)).tolist()
        entry["score"] = float(rng.random())
        if rng.random() < 0.3:
            entry["category_id"] = int(rng.choice(ids))
    return ground_truth, predictions


def columns(case: tuple[dict, list[dict]]) -> tuple[GroundTruth, Results]:
    truth = read_ground_truth(case[0])
    return truth, read_results(case[1], truth)


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_counts_and_removals_are_hotcocos(seed: int):
    case = confusing_case(seed, crowds=False)  # hotcoco calls detections near a crowd badly localized
    evaluator = hotcoco.COCOeval(hotcoco.COCO(case[0]), hotcoco.COCO(case[0]).load_res(case[1]), "bbox")
    evaluator.evaluate()
    expected = evaluator.tide_errors(0.5, 0.1)
    truth, results = columns(case)
    overall = error_types(truth, results, COCO).by_size[0]
    assert overall.counts == expected["counts"]
    if overall.objects:
        assert overall.average_precision == pytest.approx(expected["ap_base"], abs=1e-9)
        for kind in ("Both", "Dupe", "Bkg", "FP"):
            assert overall.gain[kind] == pytest.approx(expected["delta_ap"][kind], abs=1e-9)
        # hotcoco gives an AP of 0 to a class of which nothing was found when nothing else is asked for; here it is 1.
        found = set(truth.category[~find_errors(truth, results, COCO, 0.5, 0.1).unfound & ~truth.crowd])
        asked = set(truth.category[~truth.crowd])
        difference = len(asked - found) / len(asked)
        assert overall.gain["FN"] == pytest.approx(expected["delta_ap"]["FN"] + difference, abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_it_is_the_paper_told_step_by_step(seed: int):
    case = confusing_case(seed)
    truth, results = columns(case)
    overall = error_types(truth, results, COCO).by_size[0]
    for kind in (*ERROR_TYPES, *SPECIAL_TYPES):
        assert overall.gain[kind] == pytest.approx(told_gain(truth, results, kind), abs=1e-9), kind


@settings(max_examples=8, deadline=None)
@given(seeds)
def test_bins_share_the_errors_among_them(seed: int):
    truth, results = columns(confusing_case(seed))
    protocol = load_protocol("aitod")
    overall, *bins = error_types(truth, results, protocol).by_size
    for kind in ERROR_TYPES:
        assert sum(one.counts[kind] for one in bins) == overall.counts[kind]
    assert sum(one.objects for one in bins) == overall.objects
    assert overall.gain_overall == pytest.approx({kind: overall.gain[kind] for kind in ERROR_TYPES})


@settings(max_examples=8, deadline=None)
@given(seeds)
def test_no_mending_by_removal_costs(seed: int):
    truth, results = columns(confusing_case(seed))
    for one in error_types(truth, results, load_protocol("aitod")).by_size:
        assert all(one.gain[kind] >= -1e-12 for kind in ("Both", "Dupe", "Bkg", "FP", "FN", "Miss"))
        assert one.gain["FN"] >= one.gain["Miss"] - 1e-12
        assert one.average_precision == -1 or one.average_precision + one.gain["FP"] <= 1 + 1e-12


def planted(*boxes: tuple[int, list[float], float]) -> tuple[GroundTruth, Results]:
    """One object of class 1, 20 x 20 px at the origin; detections (class, box, score)."""
    ground_truth = {
        "images": [{"id": 1}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 20, 20]}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    predictions = [{"image_id": 1, "category_id": c, "bbox": box, "score": score} for c, box, score in boxes]
    return columns((ground_truth, predictions))


@pytest.mark.parametrize(
    ("kind", "category", "box"),
    [
        ("Cls", 2, [0, 0, 20, 20]),
        ("Loc", 1, [0, 0, 20, 5]),
        ("Both", 2, [0, 0, 20, 5]),
        ("Bkg", 1, [50, 50, 20, 20]),
        ("Bkg", 2, [18, 18, 20, 20]),
    ],
)
def test_a_planted_error_is_named(kind: str, category: int, box: list[float]):
    truth, results = planted((category, box, 0.9))
    overall = error_types(truth, results, COCO).by_size[0]
    expected = dict.fromkeys(ERROR_TYPES, 0) | {kind: 1, "Miss": int(kind not in ("Cls", "Loc"))}
    assert overall.counts == expected and overall.average_precision == 0
    if kind in ("Cls", "Loc"):
        assert overall.gain[kind] == 1


def test_a_duplicate_costs_where_it_comes_before_a_right_one():
    truth, results = planted((1, [0, 0, 20, 20], 0.9), (1, [0, 0, 20, 20], 0.8), (1, [0, 0, 20, 10], 0.7))
    overall = error_types(truth, results, COCO).by_size[0]
    assert overall.counts["Dupe"] == 2, "an IoU of exactly 0.5 is a duplicate, as in the paper"
    assert overall.average_precision == 1 and overall.gain["Dupe"] == 0


def test_errors_go_to_the_size_of_their_object():
    small, large = [0, 0, 10, 10], [100, 100, 200, 200]
    ground_truth = {
        "images": [{"id": 1}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": box} for box in (small, large)],
        "categories": [{"id": 1, "name": "a"}],
    }
    poor = [{"image_id": 1, "category_id": 1, "bbox": [100, 100, 200, 20], "score": 0.9}]  # 4000 px^2: medium itself
    truth, results = columns((ground_truth, poor))
    by_size = {one.size: one for one in error_types(truth, results, COCO).by_size}
    assert by_size["large"].counts["Loc"] == 1 and by_size["medium"].counts["Loc"] == 0
    assert by_size["small"].counts["Miss"] == 1 and by_size["large"].counts["Miss"] == 0
    assert by_size["small"].gain["Miss"] == 1 and by_size["large"].gain["Loc"] == 1
    assert by_size["large"].gain_overall["Loc"] == pytest.approx(51 / 101), "recall reaches one half"
    assert by_size["medium"].average_precision == -1 and set(by_size["medium"].gain.values()) == {0.0}


def test_nothing_at_all_and_wrong_thresholds():
    truth, results = columns(({"images": [], "annotations": [], "categories": []}, []))
    assert error_types(truth, results, COCO).by_size[0].average_precision == -1
    truth, results = planted()
    overall = error_types(truth, results, COCO).by_size[0]
    assert overall.counts["Miss"] == 1 and overall.gain["Miss"] == 1
    with pytest.raises(ValueError, match="background_threshold < iou_threshold"):
        error_types(truth, results, COCO, iou_threshold=0.1)


def told_gain(truth: GroundTruth, results: Results, kind: str) -> float:
    """The definitions in plain loops: classify from the IoU matrix of each image, mend, and take the mean AP."""
    found = find_errors(truth, results, COCO, 0.5, 0.1)
    right = {int(row): int(t) for row, t, k in zip(found.detection, found.truth, found.kind, strict=True) if k == RIGHT}
    wrong, before, after = {}, [], []
    for row in map(int, found.detection):
        if row not in right:
            wrong[row] = told_kind(truth, results, row)
    targets = {about for name, about in wrong.values() if name in ("Cls", "Loc")}
    unfound = {t for t in range(len(truth.area)) if not truth.crowd[t] and t not in right.values()}
    mended, taken = {}, set()
    for row in sorted(wrong, key=lambda row: -results.scores[row]):
        name, about = wrong[row]
        if name == kind and kind in ("Cls", "Loc") and about in unfound - taken:
            mended[row] = about
            taken.add(about)
    given_up = {"Miss": unfound - targets, "FN": unfound}.get(kind, set())
    for label in {int(truth.category[t]) for t in range(len(truth.area)) if not truth.crowd[t]}:
        wanted = {t for t in range(len(truth.area)) if not truth.crowd[t] and truth.category[t] == label}
        rows = [row for row in (*right, *wrong) if results.category[row] == label]
        before.append(told_precision([(results.scores[row], row in right) for row in rows], len(wanted)))
        kept = [row for row in rows if row in right or (wrong[row][0] != kind and kind != "FP")]
        listed = [(results.scores[row], row in right) for row in kept]
        listed += [(results.scores[row], True) for row, t in mended.items() if truth.category[t] == label]
        after.append(told_precision(listed, len(wanted - given_up)))
    return float(np.mean(after) - np.mean(before)) if before else 0.0


def told_kind(truth: GroundTruth, results: Results, row: int) -> tuple[str, int]:
    objects = np.flatnonzero((truth.image == results.image[row]) & ~truth.crowd)
    iou = intersection_over_union(results.boxes_xywh[[row]], truth.boxes_xywh[objects])[0]
    same = truth.category[objects] == results.category[row]
    own, other = (float(iou[mask].max(initial=0)) for mask in (same, ~same))
    if 0.1 <= own < 0.5:
        return "Loc", int(objects[same][iou[same].argmax()])
    if other >= 0.5:
        return "Cls", int(objects[~same][iou[~same].argmax()])
    if own >= 0.5:
        return "Dupe", -1
    name = "Bkg" if other <= 0.1 else "Both"
    assert name in WRONG_TYPES
    return name, -1


def told_precision(listed: list[tuple[float, bool]], objects: int) -> float:
    if not objects:
        return 1.0
    points, right = [], 0
    for place, (_, is_right) in enumerate(sorted(listed, key=lambda entry: -entry[0]), start=1):
        right += is_right
        points.append((right / objects, right / place))
    return float(np.mean([max((p for r, p in points if r >= level), default=0.0) for level in np.linspace(0, 1, 101)]))
