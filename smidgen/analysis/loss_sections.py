"""What was missed, and why: the table of stages and sizes, shares found by size, and a section for each stage."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from smidgen.analysis.bar_chart import Row, lying_bars
from smidgen.analysis.loss_advice import MEANINGS, remedies
from smidgen.analysis.loss_grid import loss_grid
from smidgen.analysis.loss_stages import PLACE_STAGES, STAGES
from smidgen.analysis.lost_object_crops import crop_figure
from smidgen.analysis.object_fates import LostObjects
from smidgen.analysis.panels import how_many
from smidgen.analysis.report import Section
from smidgen.analysis.traced_losses import TracedLosses

LOWER_SCORES = (0.2, 0.1, 0.05)


def overview_section(traced: TracedLosses) -> Section:
    """The table of stages and sizes, and two charts about it."""
    lost = traced.lost
    words = (
        "Every labeled object is followed through the detector, stage by stage from top to bottom. A missed one is "
        "counted once: at the first stage that explains the miss. The deeper the color, the larger the share of "
        "the objects of that size. Read a column from top to bottom: it is the story of one size.",
        f"{rules_in_words(lost)} Every object with its fate stands in objects.csv.",
    )
    charts = [_found_chart(lost), _stage_chart(traced)] if int(lost.objects.sum()) else []
    return Section(title="Where objects were lost", paragraphs=words, charts=charts, blocks=[loss_grid(lost)])


def rules_in_words(lost: LostObjects) -> str:
    """What counts as found, and what a size is."""
    rules = lost.rules
    cut = "" if rules.limit is None else f", among an image's {rules.limit} best"
    return (
        f"Found means: a detection of the right class overlaps the object with an IoU of {rules.iou:g} or more and "
        f"scores {rules.score_floor:g} or more{cut}. Size is the square root of the box's area in pixels of the image "
        "on disk."
    )


def stage_sections(traced: TracedLosses, config: Any) -> list[Section]:
    """One for each stage at which something was lost, with its worst losses; the largest loss first."""
    missed = int(traced.lost.table.sum())
    return [
        Section(
            title=f"{STAGES[stage].capitalize()}: {count} of {missed}",
            paragraphs=[_story(stage, traced.lost), "What to try:"],
            points=remedies(stage, config),
            pictures=[[crop_figure(crop) for crop in traced.gallery.crops.get(stage, ())]],
        )
        for stage, count in traced.stages_by_loss()
    ]


def within_reach(lost: LostObjects, score: float) -> int:
    """About how many of the objects that scored too low have a right box of their class with at least this score."""
    fates = lost.fates
    low = fates.stages == list(STAGES).index("low_score")
    right = (fates.answer_ious >= lost.rules.iou) & (fates.answer_labels == fates.labels)
    return int(np.count_nonzero(low & right & (fates.answer_scores >= score)))


def _story(stage: str, lost: LostObjects) -> str:
    words = MEANINGS[stage]
    if stage == "low_score":
        words += _rescued(lost)
    despite = int(lost.found_despite[PLACE_STAGES.index(stage)]) if stage in PLACE_STAGES else 0
    if despite:
        words += f" It is not always deadly: {how_many(despite, 'object')} failed it and were found all the same."
    return words


def _rescued(lost: LostObjects) -> str:
    """How many a lower score would find, step by step down as long as there are more of them."""
    reached: dict[float, int] = {}
    for score in LOWER_SCORES:
        count = within_reach(lost, score)
        if score < lost.rules.score_floor and count > max(reached.values(), default=0):
            reached[score] = count
    if not reached:
        return " None of them has a right box of its class, either, so that a lower score alone will not do."
    steps = ", ".join(f"{count} from {score:g} on" for score, count in reached.items())
    return f" With a right box of their class, at a lower score, are about {steps}."


def _found_chart(lost: LostObjects) -> str:
    rows = [
        Row(f"{name} ({words})", found / objects, f"{found / objects:.0%} of {objects}")
        for name, words, found, objects in zip(
            lost.rules.sizes.names, lost.rules.sizes.words(), lost.found.tolist(), lost.objects.tolist(), strict=True
        )
        if objects
    ]
    return _titled("Found, by size of the object", lying_bars(rows, label="share of the objects found, by size"))


def _stage_chart(traced: TracedLosses) -> str:
    missed = int(traced.lost.table.sum())
    if not missed:
        return ""
    rows = [Row(STAGES[stage], count / missed, str(count)) for stage, count in traced.stages_by_loss()]
    return _titled(
        "Missed, by stage", lying_bars(rows, label="missed objects by the stage they were lost at", chosen=0)
    )


def _titled(words: str, chart: str) -> str:
    return f'<div><p class="note">{escape(words)}</p>{chart}</div>'
