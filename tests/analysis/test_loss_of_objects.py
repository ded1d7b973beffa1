"""Objects die at the stage at which they were made to die; what adds up adds up."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from loss_cases import NOWHERE, Query, answered, asked, learned
from observation_cases import SHAPES, token_of

from smidgen.analysis.loss_of_objects import stages_of, trace_objects
from smidgen.analysis.loss_stages import STAGES, LossRules, SizeBins
from smidgen.analysis.loss_table_picture import lost_objects_picture
from smidgen.analysis.lost_objects_gallery import gallery_picture, lost_objects_gallery
from smidgen.analysis.observation import Observation
from smidgen.decoder.readout import TopScoring
from smidgen.structures import ActiveTokens
from smidgen.tokens.salience_filtering import SalienceMaps
from smidgen.tokens.sparse_finest_level import FinestLevel

BOX = (16.0, 16.0, 24.0, 24.0)  # one cell of stride 8: row 2, column 2
HERE = token_of(0, 2, 2)
SURE, SILENT = (0.9, 0.01), (0.01, 0.01)
NUM_TOKENS = sum(rows * columns for rows, columns in SHAPES)


def fate(seen: Observation, rules: LossRules | None = None) -> str:
    """Of the first object."""
    return str(next(trace_objects(seen, rules).fates.rows())["stage"])


def moved(x: float, y: float = 0.0) -> tuple[float, float, float, float]:
    return BOX[0] + x, BOX[1] + y, BOX[2] + x, BOX[3] + y


def refined(*tokens: int) -> SalienceMaps:
    index = torch.tensor([tokens], dtype=torch.long).reshape(1, -1)
    maps = tuple(torch.zeros(1, *shape) for shape in SHAPES)
    return SalienceMaps(maps, (ActiveTokens(index, torch.zeros_like(index, dtype=torch.bool)),), (64, 96))


def computed(*tokens: int) -> FinestLevel:
    index = torch.tensor([tokens], dtype=torch.long).reshape(1, -1)
    chosen = ActiveTokens(index, torch.zeros_like(index, dtype=torch.bool))
    coarse = torch.zeros(1, *SHAPES[1])
    return FinestLevel(coarse, coarse.bool(), coarse.bool(), chosen, torch.zeros(1), (64, 96))


@pytest.mark.parametrize(
    ("stage", "query"),
    [
        ("found", Query(BOX, SURE, HERE)),
        ("not_selected", Query(NOWHERE, SURE)),
        ("elsewhere", Query(NOWHERE, SURE, HERE)),
        ("elsewhere", Query(NOWHERE, SURE, start=moved(2.0))),
        ("not_selected", Query(NOWHERE, SURE, start=moved(3.0))),
        ("badly_localized", Query(moved(4.0), SURE, HERE)),
        ("badly_localized", Query(moved(4.0), (0.01, 0.9), HERE)),
        ("wrong_class", Query(moved(1.0), (0.2, 0.9), HERE)),
        ("low_score", Query(moved(1.0), (0.2, 0.01), HERE)),
        ("low_score", Query(moved(1.0), (0.2, 0.25), HERE)),
        ("low_score", Query(moved(4.0), SILENT, HERE)),
        # A sure answer proves that the place was no matter, a timid one does not.
        ("wrong_class", Query(BOX, (0.01, 0.9), start=NOWHERE)),
        ("not_selected", Query(BOX, (0.2, 0.01), start=NOWHERE)),
    ],
)
def test_one_query_decides_one_fate(stage: str, query: Query) -> None:
    assert fate(asked([BOX], [query])) == stage


def test_a_query_whose_box_lies_on_another_object_answers_elsewhere() -> None:
    neighbor = moved(3.0)
    taken = Query(moved(2.5), SURE, HERE)
    assert fate(asked([BOX, neighbor], [taken])) == "elsewhere"
    assert fate(asked([BOX, neighbor], [taken, Query(moved(-1.0), SILENT, HERE)])) == "low_score"


def test_objects_that_share_their_only_cell_have_one_token_for_the_nearer() -> None:
    near, far = (19.0, 19.0, 21.5, 21.5), (16.5, 16.5, 18.5, 18.5)
    rows = list(trace_objects(asked([far, near], [Query(NOWHERE, SURE)])).fates.rows())
    assert [row["stage"] for row in rows] == ["no_token", "not_selected"]


def test_cells_whose_base_boxes_leave_the_image_are_no_tokens_of_two_stages() -> None:
    edge = (0.0, 20.0, 0.8, 21.0)
    seen = asked([edge], [Query(NOWHERE, SURE)])
    assert fate(seen) == "not_selected"
    assert seen.tokens is not None
    padded = replace(seen, tokens=replace(seen.tokens, padding=torch.ones_like(seen.tokens.padding)))
    assert fate(padded) == "no_token"


def test_salience_that_left_an_object_out_explains_the_miss_and_only_the_miss() -> None:
    elsewhere, here = (refined(token_of(0, 5, 5), token_of(1, 1, 1)),), (refined(HERE),)
    timid, sure = [Query(BOX, (0.2, 0.01), HERE)], [Query(BOX, SURE, HERE)]
    assert fate(asked([BOX], timid, evidence=elsewhere)) == "filtered"
    assert fate(asked([BOX], timid, evidence=here)) == "low_score"
    lost = trace_objects(asked([BOX], sure, evidence=elsewhere))
    assert lost.table.sum() == 0 and lost.to_json()["stages"][1]["found_despite"] == 1


def test_a_sparse_finest_level_loses_what_it_did_not_compute() -> None:
    timid, large = [Query(BOX, (0.2, 0.01), HERE)], (8.0, 8.0, 56.0, 40.0)
    assert fate(asked([BOX], timid, evidence=(computed(token_of(0, 5, 5)),))) == "not_queried"
    assert fate(asked([BOX], timid, evidence=(computed(HERE),))) == "low_score"
    assert fate(asked([large], timid, evidence=(computed(token_of(0, 7, 7)),))) == "elsewhere", "it has coarser tokens"
    # An encoder over the coarser levels counts its tokens without the finest.
    both = (replace(refined(23), logits=(torch.zeros(1, *SHAPES[1]),)), computed(token_of(0, 5, 5)))
    assert fate(asked([BOX], timid, evidence=both)) == "not_queried", "no salience was asked about the finest level"
    assert fate(asked([large], [Query(NOWHERE, SURE)], evidence=both)) == "filtered"
    assert fate(asked([BOX], timid, evidence=(*both[:1], computed(HERE)))) == "low_score"


def test_a_score_floor_of_one_makes_every_found_object_one_of_low_score() -> None:
    boxes = [BOX, moved(16.0), moved(40.0, 8.0)]
    seen = asked(boxes, [Query(box, (0.6 + 0.1 * number, 0.3)) for number, box in enumerate(boxes)])
    assert trace_objects(seen).found.sum() == 3
    strict = trace_objects(seen, LossRules(score_floor=1.0))
    assert {row["stage"] for row in strict.fates.rows()} == {"low_score"}


@pytest.mark.parametrize("in_readout", [False, True])
def test_a_limit_of_one_cuts_the_second(in_readout: bool) -> None:
    queries = [Query(BOX, SURE, HERE), Query(moved(16.0), (0.8, 0.01))]
    readout, rules = (TopScoring(1), LossRules()) if in_readout else (None, LossRules(limit=1))
    seen = asked([BOX, moved(16.0)], queries, readout=readout)
    assert [row["stage"] for row in trace_objects(seen, rules).fates.rows()] == ["found", "limit"]


def test_suppression_at_no_overlap_cuts_the_second_of_two_that_touch() -> None:
    boxes = [(16.0, 16.0, 32.0, 32.0), (30.0, 16.0, 46.0, 32.0)]
    answers = [(boxes[0], (0.9, 0.0)), (boxes[1], (0.8, 0.0))]
    lost = trace_objects(answered(boxes, answers, nms_iou=0.0))
    assert [row["stage"] for row in lost.fates.rows()] == ["found", "suppressed"]
    assert trace_objects(answered(boxes, answers, nms_iou=0.3)).found.sum() == 2
    assert fate(answered(boxes[::-1], answers, num_detections=1)) == "limit"
    assert fate(answered(boxes[::-1], answers, labels=[1, 0], nms_iou=0.0)) == "wrong_class"


def test_cells_of_a_dense_detector_that_say_little_are_low_scores() -> None:
    assert fate(answered([BOX], [(BOX, (0.04, 0.0))])) == "low_score"
    assert fate(answered([BOX], [(BOX, (0.4, 0.0))], score_threshold=0.5)) == "low_score", "its own threshold counts"
    assert fate(answered([BOX], [(moved(5.0), (0.4, 0.0))])) == "badly_localized"
    assert fate(answered([(60.0, 2.0, 94.0, 36.0)], [])) == "elsewhere", "no cell has a box of that size"


def test_stages_that_a_detector_lacks_have_no_numbers() -> None:
    two_stage = asked([BOX], [Query(BOX, SURE)])
    assert set(STAGES) - set(stages_of(two_stage)) == {"filtered", "not_queried", "suppressed"}
    assert "not_selected" not in stages_of(learned(two_stage))
    assert fate(learned(asked([BOX], [Query(NOWHERE, SURE)]))) == "elsewhere"
    assert "suppressed" in stages_of(answered([BOX], []))
    table = {row["stage"]: row for row in trace_objects(two_stage).to_json()["stages"]}
    assert table["filtered"]["missed"] is None and table["not_selected"]["missed"] == 0


def test_counts_add_up_and_agree_with_the_rows(tmp_path: Path) -> None:
    boxes = [BOX, moved(16.0), (40.0, 8.0, 90.0, 60.0), (4.0, 40.0, 24.0, 60.0)]
    seen = asked(boxes, [Query(BOX, SURE, HERE), Query(moved(17.0), (0.1, 0.8)), Query(boxes[3], SILENT)])
    one = trace_objects(seen)
    both = one + one
    values = json.loads(json.dumps(both.to_json()))
    assert values["images"] == 2 and values["objects"] == 8
    assert values["missed"] == sum(row["missed"] or 0 for row in values["stages"]) == 8 - values["found"]
    sums = np.sum([row["missed_by_size"] for row in values["stages"] if row["missed_by_size"]], axis=0)
    assert sums.tolist() == values["missed_by_size"]
    assert (both.found + both.table.sum(axis=0) == both.objects).all()
    assert values["objects_by_size"] == [0, 4, 2, 2, 0], "8 px are tiny, 20 px small, 51 px medium"
    with both.fates.write_csv(tmp_path / "fates.csv", ("car", "ship")).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 and rows[1]["class"] == "car" and rows[1]["best_class"] == "ship"
    assert sum(row["stage"] == "found" for row in rows) == values["found"]
    with pytest.raises(ValueError, match="same rules"):
        _ = one + trace_objects(seen, LossRules(score_floor=0.5))


def test_sizes_and_boxes_are_those_of_the_image_on_disk() -> None:
    seen = asked([BOX], [Query(moved(1.0), SILENT, HERE)])
    larger = replace(seen, targets=tuple(replace(target, original_hw=(256, 384)) for target in seen.targets))
    lost = trace_objects(larger, LossRules(sizes=SizeBins(("below", "above"), (31.9,))))
    (row,) = lost.fates.rows()
    assert row["box"] == [64.0, 64.0, 96.0, 96.0] and row["size_px"] == 32.0
    assert row["best_box"] == [68.0, 64.0, 100.0, 96.0] and lost.table.sum(axis=0).tolist() == [0, 1]


def test_an_image_without_objects_loses_none() -> None:
    lost = trace_objects(asked([], [Query(BOX, SURE)])) + trace_objects(asked([BOX], [Query(BOX, SURE)]))
    assert (lost.images, lost.objects.sum(), lost.table.sum()) == (2, 1, 0)
    assert trace_objects(answered([], [])).objects.sum() == 0


def test_pictures_show_what_was_counted(tmp_path: Path) -> None:
    seen = asked([BOX, moved(16.0), moved(48.0)], [Query(moved(4.0), SURE, HERE), Query(moved(16.0), (0.1, 0.8))])
    lost = trace_objects(seen)
    picture = lost_objects_picture(lost)
    assert picture.data == lost.to_json() and "3 of 3 objects in 1 image" in picture.figure.get_suptitle()
    assert picture.save(tmp_path / "table.png").stat().st_size > 10_000
    gallery = lost_objects_gallery(seen, lost, ("car", "ship"), per_stage=1)
    drawn = gallery_picture(gallery + gallery)
    assert {stage: len(rows) for stage, rows in drawn.data.items()} == dict.fromkeys(
        ("not_selected", "badly_localized", "wrong_class"), 1
    )
    assert drawn.save(tmp_path / "gallery.png").stat().st_size > 10_000
    words = {axes.get_xlabel() for figure in drawn.figure.subfigs for axes in figure.axes}
    assert "car, 8 px\nimage 7\nIoU 1.00: ship 0.80" in words
    nothing = asked([], [Query(BOX, SURE)])
    assert gallery_picture(lost_objects_gallery(nothing, trace_objects(nothing))).data == {}


def test_the_gallery_keeps_the_worst() -> None:
    boxes = [BOX, moved(16.0), moved(40.0)]
    queries = [Query(box, (0.1, score)) for box, score in zip(boxes, (0.5, 0.9, 0.7), strict=True)]
    seen = asked(boxes, queries)
    gallery = lost_objects_gallery(seen, trace_objects(seen), per_stage=2)
    assert [crop.row["best_score"] for crop in gallery.crops["wrong_class"]] == [0.9, 0.7]
    assert all(crop.pixels.shape == (48, 48, 3) for crop in gallery.crops["wrong_class"])


@pytest.mark.parametrize(
    "wrong",
    [{"score_floor": 1.5}, {"limit": 0}, {"iou": 0.05}, {"sizes": None}],
    ids=["floor", "limit", "iou", "sizes"],
)
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        _ = SizeBins(("one",), (1.0,)) if "sizes" in wrong else LossRules(**wrong)  # type: ignore[arg-type]
