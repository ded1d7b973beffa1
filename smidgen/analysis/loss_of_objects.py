"""Where each object was lost: for every labeled object that a detector missed, the one stage at which it died.

An object passes the stages of `loss_stages.STAGES` in order, and a missed one is put down to the first that explains
the miss. What counts as found is COCO's matching of the kept detections; thresholds are `LossRules`. The stages that
decide on places come first:

- no_token: no valid cell of any level at its place, or only one that it must share (`token_coverage`);
- filtered: none of its cells was refined by a salience-filtered encoder (`SalienceMaps`);
- not_queried: none of its cells was computed (`ComputedCells` of a cascade, `FinestLevel` of a sparse finest level);
- not_selected: no query started at one of its cells or with a box on it (`Places`), or no region lies on it
  (`RegionAnswers`).

They explain nothing where an answer shows that the object got past them: an own answer that scores at least `sign`, or
one that only a limit or suppression cut. An object's *own* answers are the raw boxes (`raw_answers`) that overlap it by
0.1 or more, and no other object more. Of the stages of answers, the one that came furthest counts:

- limit, suppressed: an own answer is right in box and class and reaches the score floor, but was not kept; suppressed
  where a better kept detection of its class overlaps it by more than the readout allows, else cut by a limit;
- wrong_class: an own answer with a right box reaches the floor, for another class;
- badly_localized: an own answer reaches the floor, none of them with a right box;
- low_score: own answers are there, and none reaches the floor;
- elsewhere: no own answer is left, or none of a query that started at the object (it drifted off, or the box it ended
  with lies on another object).

Found objects may have failed a place stage, too: `found_despite` counts them, and says how deadly a stage really is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from smidgen.analysis.found_objects import found_objects
from smidgen.analysis.loss_of_objects_dense import dense_grids, no_region, not_queried
from smidgen.analysis.loss_stages import FOUND, PLACE_STAGES, STAGES, LossRules, number_of
from smidgen.analysis.object_fates import LostObjects, ObjectFates
from smidgen.analysis.observation import Observation
from smidgen.analysis.raw_answers import Answers, Kept, kept_detections, near_objects, raw_answers
from smidgen.analysis.token_coverage import Grid, Homes, homes_of, without_token
from smidgen.analysis.token_evidence import not_computed, not_refined, started_at, token_grids
from smidgen.boxes import full_precision, pairwise_iou
from smidgen.structures import Target


def trace_objects(observation: Observation, rules: LossRules | None = None) -> LostObjects:
    """The fate of every labeled object of one batch; those of several batches add up."""
    rules = LossRules() if rules is None else rules
    answers = raw_answers(observation)
    kept = kept_detections(observation, rules.score_floor, rules.limit)
    fates = [
        _fates_of_image(observation, image, answers[image], kept[image], rules) for image in range(len(observation))
    ]
    return LostObjects(rules, stages_of(observation), len(observation), ObjectFates.join(fates))


def stages_of(observation: Observation) -> tuple[str, ...]:
    """The stages that this detector has."""
    nowhere = torch.zeros((0, 4), device=observation.output.final.boxes_cxcywh.device)
    failed = _failed_places(observation, 0, nowhere, LossRules())[0]
    suppresses = getattr(observation.readout, "nms_iou", None) is not None
    absent = {stage for stage in PLACE_STAGES if stage not in failed} | (set() if suppresses else {"suppressed"})
    return tuple(stage for stage in STAGES if stage not in absent)


def _fates_of_image(
    observation: Observation, image: int, answers: Answers, kept: Kept, rules: LossRules
) -> ObjectFates:
    target = observation.targets[image]
    boxes, labels = full_precision(target.boxes_xyxy), target.labels
    found = found_objects(boxes, labels, kept.boxes_xyxy, kept.labels, rules.iou)
    failed, started = _failed_places(observation, image, boxes, rules)
    late = late_losses(boxes, labels, answers, kept, rules, started)
    stage = late.stage
    for name in reversed(PLACE_STAGES):
        if name in failed:
            stage = torch.where(failed[name] & ~late.passed, number_of(name), stage)
    return _as_fates(target, torch.where(found, FOUND, stage), failed, late)


def _failed_places(
    observation: Observation, image: int, boxes: Float[Tensor, "M 4"], rules: LossRules
) -> tuple[dict[str, Bool[Tensor, " M"]], Bool[Tensor, "Q M"] | None]:
    """By stage that this detector has, the objects that fail it; and which queries started at which object."""
    dense, started = observation.dense, None
    grids: Sequence[Grid] = token_grids(observation, image) if dense is None else dense_grids(dense.output, image)
    failed: dict[str, Tensor | None] = {}
    if grids:
        homes: Homes = homes_of(boxes, grids)
        failed["no_token"] = without_token(boxes, homes, grids)
        if dense is not None:
            failed["not_queried"] = not_queried(dense, image, boxes, grids)
            failed["not_selected"] = no_region(dense, image, boxes, rules.start_iou)
        else:
            failed["filtered"] = not_refined(observation, image, homes)
            failed["not_queried"] = not_computed(observation, image, homes)
            started = started_at(observation, image, boxes, homes, rules.start_iou)
            failed["not_selected"] = None if started is None else ~started.any(dim=0)
    return {stage: objects for stage, objects in failed.items() if objects is not None}, started


@dataclass(frozen=True, slots=True)
class LateLosses:
    """What the answers say of each object, would it be missed.

    stage: a number of `STAGES` from "elsewhere" on. passed: whether an answer shows that the places were right. The
    best answer: box, its overlap with the object, its best score and the class of that; overlap 0 where there is none.
    """

    stage: Int[Tensor, " M"]
    passed: Bool[Tensor, " M"]
    boxes_xyxy: Float[Tensor, "M 4"]
    ious: Float[Tensor, " M"]
    scores: Float[Tensor, " M"]
    labels: Int[Tensor, " M"]


def late_losses(
    boxes: Float[Tensor, "M 4"],
    labels: Int[Tensor, " M"],
    answers: Answers,
    kept: Kept,
    rules: LossRules,
    started: Bool[Tensor, "Q M"] | None,
) -> LateLosses:
    """The stages after the places, of every object as if it were missed."""
    near, iou = near_objects(answers, boxes, rules.background_iou)
    class_score = near.scores[:, labels]
    top_score = near.scores.amax(dim=1, keepdim=True)
    own = _is_own(iou, torch.zeros_like(labels)) & (iou >= rules.background_iou)
    right = _is_own(iou, labels) & (iou >= rules.iou)

    def heard(scores: Tensor) -> Tensor:
        return (scores >= rules.score_floor) & (scores > near.silence)

    cut, spoken = right & heard(class_score), own & heard(top_score)
    wrong = spoken & (iou >= rules.iou)
    sign = (own & (top_score >= rules.sign)) | (right & (class_score >= rules.sign))
    stayed = own if started is None else own & (started[near.rows] | (iou >= rules.iou))
    stage = _first_that_holds(
        {
            "suppressed": _is_suppressed(near, cut, class_score, labels, kept),
            "limit": cut.any(dim=0),
            "wrong_class": wrong.any(dim=0),
            "badly_localized": spoken.any(dim=0),
            "low_score": (stayed | right).any(dim=0),
        },
        otherwise="elsewhere",
    )
    passed = (cut | sign).any(dim=0)
    best = _best(iou, class_score, top_score, (cut, wrong, spoken, right, stayed, own))
    return _with_best_answer(stage, passed, best, near, iou, boxes)


def _is_own(iou: Float[Tensor, "N M"], group: Int[Tensor, " M"]) -> Bool[Tensor, "N M"]:
    """Whether no object of the same group overlaps the answer more."""
    if not group.numel():
        return torch.zeros_like(iou, dtype=torch.bool)
    best = iou.new_zeros((len(iou), int(group.max()) + 1))
    best = best.scatter_reduce(1, group.expand(len(iou), -1), iou, "amax")
    return (iou > 0) & (iou >= best[:, group])


def _first_that_holds(conditions: dict[str, Bool[Tensor, " M"]], otherwise: str) -> Int[Tensor, " M"]:
    (first, *_) = conditions.values()
    stage = torch.full(first.shape, number_of(otherwise), device=first.device)
    for name, holds in reversed(conditions.items()):
        stage = torch.where(holds, number_of(name), stage)
    return stage


def _is_suppressed(
    near: Answers, cut: Bool[Tensor, "N M"], class_score: Float[Tensor, "N M"], labels: Int[Tensor, " M"], kept: Kept
) -> Bool[Tensor, " M"]:
    """Whether the best of an object's cut answers overlaps a better kept detection of its class too much."""
    if kept.nms_iou is None or not len(near.rows) or not len(kept.scores):
        return torch.zeros_like(labels, dtype=torch.bool)
    best, answer = class_score.masked_fill(~cut, -1.0).max(dim=0)
    overlaps = pairwise_iou(near.boxes_xyxy[answer], kept.boxes_xyxy) > kept.nms_iou
    better = (kept.labels == labels[:, None]) & (kept.scores >= best[:, None])
    return (best >= 0) & (overlaps & better).any(dim=1)


def _best(
    iou: Float[Tensor, "N M"],
    class_score: Float[Tensor, "N M"],
    top_score: Float[Tensor, "N 1"],
    kinds: Sequence[Bool[Tensor, "N M"]],
) -> Int[Tensor, " M"]:
    """Per object the answer that tells its story: of the first kind that it has any of, the best-scored one (of the
    object's class for the first); where it has none, the one that overlaps most.
    """
    rank = iou.clone()
    for number, kind in enumerate(reversed(kinds), start=1):
        score = class_score if number == len(kinds) else top_score
        rank = torch.where(kind, 2.0 * number + score, rank)
    return rank.argmax(dim=0) if len(rank) else rank.new_zeros(rank.shape[1], dtype=torch.long)


def _with_best_answer(
    stage: Tensor, passed: Tensor, best: Int[Tensor, " M"], near: Answers, iou: Float[Tensor, "N M"], boxes: Tensor
) -> LateLosses:
    if not len(near.rows):
        nothing = torch.zeros_like(boxes)
        return LateLosses(stage, passed, nothing, nothing[:, 0], nothing[:, 0], torch.full_like(stage, -1))
    score, label = near.scores.max(dim=1)
    overlap = iou.gather(0, best[None])[0]
    return LateLosses(stage, passed, near.boxes_xyxy[best], overlap, score[best], label[best])


def _as_fates(target: Target, stage: Tensor, failed: dict[str, Tensor], late: LateLosses) -> ObjectFates:
    """In pixels of the image on disk."""
    scale = np.array([target.original_hw[1] / target.size_hw[1], target.original_hw[0] / target.size_hw[0]] * 2)
    never = torch.zeros_like(late.passed)
    places = torch.stack([failed.get(name, never) for name in PLACE_STAGES], dim=1)
    return ObjectFates(
        image_ids=(target.image_id,) * len(target),
        boxes_xyxy=_array(target.boxes_xyxy) * scale,
        labels=_array(target.labels).astype(np.int64),
        stages=_array(stage).astype(np.int64),
        failed_places=_array(places).astype(bool),
        answer_boxes_xyxy=_array(late.boxes_xyxy) * scale,
        answer_ious=_array(late.ious).astype(np.float64),
        answer_scores=_array(late.scores).astype(np.float64),
        answer_labels=_array(late.labels).astype(np.int64),
    )


def _array(values: Tensor) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = values.detach().cpu().numpy()
    return array
