"""What a page of explanation comes to, in a few sentences that need no table."""

from __future__ import annotations

from typing import Any

from smidgen.analysis.dataset_advice.advice import percent
from smidgen.analysis.error_sections import ERROR_WORDS, costliest_errors
from smidgen.analysis.judged import Judged
from smidgen.analysis.loss_advice import remedies
from smidgen.analysis.loss_stages import STAGES
from smidgen.analysis.object_fates import LostObjects
from smidgen.analysis.panels import how_many
from smidgen.analysis.traced_losses import TracedLosses

TELLING = 5
"""A size with fewer objects is not spoken of."""


def in_short(traced: TracedLosses, judged: Judged, config: Any) -> list[str]:
    """How many objects were found, which were not, why, and what to try first."""
    objects = int(traced.lost.objects.sum())
    if not objects:
        return ["There is no labeled object of a class that the model knows: nothing can be said about misses."]
    return [line for line in (_found(traced.lost), _missed(traced), _try(traced, config), _errors(judged)) if line]


def _found(lost: LostObjects) -> str:
    found, objects = int(lost.found.sum()), int(lost.objects.sum())
    words = f"{percent(found / objects)} of {how_many(objects, 'object')} were found."
    shares = [
        (name, one / of, of)
        for name, one, of in zip(lost.rules.sizes.names, lost.found.tolist(), lost.objects.tolist(), strict=True)
        if of >= TELLING
    ]
    if len(shares) < 2:
        return words
    by_size = [f"{percent(share)} of the {of} {name} ones" for name, share, of in shares]
    return f"{words} By size: {', '.join(by_size[:-1])} and {by_size[-1]}."


def _missed(traced: TracedLosses) -> str:
    stages = traced.stages_by_loss()
    if not stages:
        return "None was missed."
    missed = sum(count for _, count in stages)
    (first, count), *others = stages
    words = f"Of the {missed} missed ones, {_most(count, missed)} fell at the stage “{STAGES[first]}” ({count})"
    if others:
        words += "; then come " + " and ".join(f"“{STAGES[stage]}” ({number})" for stage, number in others[:2])
    return f"{words}."


def _most(count: int, missed: int) -> str:
    return "all" if count == missed else "most" if 2 * count > missed else "the largest part"


def _try(traced: TracedLosses, config: Any) -> str:
    """For the stage that lost most."""
    stages = traced.stages_by_loss()
    words = remedies(stages[0][0], config)[:1] if stages else []
    return f"First thing to try: {words[0]}." if words else ""


def _errors(judged: Judged) -> str:
    costs = costliest_errors(judged.errors)
    if not costs:
        return ""
    name, gain = costs[0]
    words = (
        f"By average precision, {ERROR_WORDS[name]} cost most: mending them would gain {gain:.1f} points at IoU "
        f"{judged.errors.errors.iou_threshold:g}"
    )
    every = judged.errors.calibration.by_size[0] if judged.errors.calibration is not None else None
    if every is None or not every.detections.any() or abs(every.overconfidence) < 0.1:
        return f"{words}."
    promise = "too much" if every.overconfidence > 0 else "too little"
    return f"{words}. Scores promise {promise}, by {100 * abs(every.overconfidence):.0f} points on average."
