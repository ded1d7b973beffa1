"""The one place that knows the COCO engine (hotcoco): who matches whom, and the precision and recall curves of it.

Nothing else imports hotcoco, so another engine means another class `Engine`. Only the engine's arrays are read:
its printed summary has COCO's detection limit built in. pycocotools is the oracle of the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import hotcoco
import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from smidgen.evaluation.annotations import GroundTruth, Results
from smidgen.evaluation.detection_order import by_class
from smidgen.evaluation.precision_curve import RECALL_LEVELS


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


class Engine:
    """Detections against their ground truth: read in once, judged and matched as often as one likes."""

    def __init__(self, truth: GroundTruth, results: Results) -> None:
        self.truth, self.results = truth, results

    def judge(
        self,
        *,
        thresholds: Float[NDArray[np.float64], " T"],
        areas: Sequence[tuple[float, float]],
        limits: Sequence[int],
    ) -> Curves:
        """Match detections greedily by score, per image and class, and accumulate over images."""
        if self._nothing:
            shape = (len(thresholds), len(self.truth.category_ids), len(areas), len(limits))
            return Curves(np.full((shape[0], len(RECALL_LEVELS), *shape[1:]), -1.0), np.full(shape, -1.0))
        self._evaluate(thresholds, areas, limits)
        self._evaluator.accumulate()
        return Curves(np.asarray(self._evaluator.eval["precision"]), np.asarray(self._evaluator.eval["recall"]))

    def match(self, *, thresholds: Float[NDArray[np.float64], " T"], area: tuple[float, float], limit: int) -> Matching:
        """The matches behind `judge`'s curves, for one size bin and one limit."""
        records: list[dict[str, Any]] = []
        if not self._nothing:
            self._evaluate(thresholds, [area], [limit])
            records = [record for record in self._evaluator.eval_imgs if record is not None and len(record["dtIds"])]
        rows = np.concatenate([np.zeros(0, np.int64), *(np.asarray(record["dtIds"]) for record in records)]) - 1
        # The engine names ground truth by id (row + 1 here) and writes 0 where there is no match.
        matched = _columns(records, "dtMatches", len(thresholds)) - 1
        ignored = _columns(records, "dtIgnore", len(thresholds)).astype(np.bool_)
        order = by_class(self.results, rows)
        objects = self.truth.counted(self.truth.wanted(area))
        return Matching(rows[order], matched[:, order], ~ignored[:, order], objects)

    @property
    def _nothing(self) -> bool:
        return not self.truth.image_ids or not self.truth.category_ids

    @cached_property
    def _evaluator(self) -> Any:
        annotations, results = _annotations(self.truth), self.results
        rows = np.column_stack([results.image, results.boxes_xywh, results.scores, results.category])
        return hotcoco.COCOeval(annotations, annotations.load_res(rows), "bbox")

    def _evaluate(
        self, thresholds: NDArray[np.float64], areas: Sequence[tuple[float, float]], limits: Sequence[int]
    ) -> None:
        # The engine hands out a copy of its parameters: change it and assign it back.
        parameters = self._evaluator.params
        parameters.iou_thrs = thresholds.tolist()
        parameters.area_rng = [list(bounds) for bounds in areas]
        parameters.area_rng_lbl = [str(index) for index in range(len(areas))]
        parameters.max_dets = list(limits)
        self._evaluator.params = parameters
        self._evaluator.evaluate()


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
