"""The one place that knows the COCO engine (hotcoco): who matches whom, and the precision and recall curves of it.

Nothing else imports hotcoco, so another engine means another `judge` and `match`. Only the engine's arrays are read:
its printed summary has COCO's detection limit built in. pycocotools is the oracle of the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import hotcoco
import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from smidgen.evaluation.annotations import GroundTruth, Results

RECALL_LEVELS: Float[NDArray[np.float64], 101] = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, slots=True)
class Curves:
    """Precision at 101 recall levels, and recall, by threshold T, class K, area A, limit M; -1 without objects."""

    precision: Float[NDArray[np.float64], "T 101 K A M"]
    recall: Float[NDArray[np.float64], "T K A M"]


@dataclass(frozen=True, slots=True)
class Matching:
    """What became of every detection in one size bin: by class, then best score first (ties: as in the file).

    detection: row of `Results`; truth: matched row of `GroundTruth` per threshold, -1 = none. counted: False where the
    detection matched something ignored, or matched nothing and lies outside the size bin. objects: to be found, per
    image and class.
    """

    detection: Int[NDArray[np.int64], " D"]
    truth: Int[NDArray[np.int64], "T D"]
    counted: Bool[NDArray[np.bool_], "T D"]
    objects: Int[NDArray[np.int64], "I K"]

    @property
    def hit(self) -> Bool[NDArray[np.bool_], "T D"]:
        """True positives."""
        return self.counted & (self.truth >= 0)


def judge(
    truth: GroundTruth,
    results: Results,
    *,
    thresholds: Float[NDArray[np.float64], " T"],
    areas: Sequence[tuple[float, float]],
    limits: Sequence[int],
) -> Curves:
    """Match detections greedily by score, per image and class, and accumulate over images."""
    if not truth.image_ids or not truth.category_ids:
        shape = (len(thresholds), len(truth.category_ids), len(areas), len(limits))
        return Curves(np.full((shape[0], len(RECALL_LEVELS), *shape[1:]), -1.0), np.full(shape, -1.0))
    evaluator = _evaluator(truth, results, thresholds, areas, limits)
    evaluator.evaluate()
    evaluator.accumulate()
    return Curves(np.asarray(evaluator.eval["precision"]), np.asarray(evaluator.eval["recall"]))


def match(
    truth: GroundTruth,
    results: Results,
    *,
    thresholds: Float[NDArray[np.float64], " T"],
    area: tuple[float, float],
    limit: int,
) -> Matching:
    """The matches behind `judge`'s curves, for one size bin and one limit."""
    records: list[dict[str, Any]] = []
    if truth.image_ids and truth.category_ids:
        evaluator = _evaluator(truth, results, thresholds, [area], [limit])
        evaluator.evaluate()
        records = [record for record in evaluator.eval_imgs if record is not None and len(record["dtIds"])]
    detection = np.concatenate([np.zeros(0, np.int64), *(np.asarray(record["dtIds"]) for record in records)]) - 1
    # The engine names ground truth by id (row + 1 here) and writes 0 where there is no match.
    matched = _columns(records, "dtMatches", len(thresholds)) - 1
    ignored = _columns(records, "dtIgnore", len(thresholds)).astype(np.bool_)
    order = np.lexsort((detection, results.image[detection], -results.scores[detection], results.category[detection]))
    return Matching(detection[order], matched[:, order], ~ignored[:, order], _objects(truth, area))


def _evaluator(
    truth: GroundTruth,
    results: Results,
    thresholds: NDArray[np.float64],
    areas: Sequence[tuple[float, float]],
    limits: Sequence[int],
) -> Any:
    annotations = _annotations(truth)
    rows = np.column_stack([results.image, results.boxes_xywh, results.scores, results.category])
    evaluator = hotcoco.COCOeval(annotations, annotations.load_res(rows.astype(np.float64)), "bbox")
    # The engine hands out a copy of its parameters: change it and assign it back.
    parameters = evaluator.params
    parameters.iou_thrs = thresholds.tolist()
    parameters.area_rng = [list(bounds) for bounds in areas]
    parameters.area_rng_lbl = [str(index) for index in range(len(areas))]
    parameters.max_dets = list(limits)
    evaluator.params = parameters
    return evaluator


def _annotations(truth: GroundTruth) -> Any:
    return hotcoco.COCO.from_arrays(
        [{"id": index, "width": 0, "height": 0} for index in range(len(truth.image_ids))],
        [{"id": index, "name": str(index)} for index in range(len(truth.category_ids))],
        truth.image,
        truth.category,
        truth.boxes_xywh,
        ids=np.arange(1, len(truth.image) + 1),
        area=truth.area,
        iscrowd=truth.crowd.astype(np.int64),
    )


def _columns(records: Sequence[dict[str, Any]], key: str, rows: int) -> NDArray[np.int64]:
    parts = [np.asarray(record[key], dtype=np.int64).reshape(rows, -1) for record in records]
    return np.concatenate([np.zeros((rows, 0), np.int64), *parts], axis=1)


def _objects(truth: GroundTruth, area: tuple[float, float]) -> NDArray[np.int64]:
    wanted = ~truth.crowd & (truth.area >= area[0]) & (truth.area <= area[1])
    objects = np.zeros((len(truth.image_ids), len(truth.category_ids)), np.int64)
    np.add.at(objects, (truth.image[wanted], truth.category[wanted]), 1)
    return objects
