"""What was missed, and why: the table of stages and sizes, shares found by size, and a section for each stage."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from smidgen.analysis.bar_chart import Row, lying_bars
from smidgen.analysis.loss_advice import MEANINGS, remedies
from smidgen.analysis.loss_stages import PLACE_STAGES, STAGES
from smidgen.analysis.lost_object_crops import crop_figure
from smidgen.analysis.object_fates import LostObjects
from smidgen.analysis.panels import how_many
from smidgen.analysis.report import Section
from smidgen.analysis.traced_losses import TracedLosses

MOST_SHADE = 75
TELLING = 5  # shares of fewer objects are not shaded
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
    return Section(title="Where objects were lost", paragraphs=words, charts=charts, blocks=[loss_table(lost)])


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
            paragraphs=_story(stage, traced.lost, config),
            pictures=[[crop_figure(crop) for crop in traced.gallery.crops.get(stage, ())]],
        )
        for stage, count in traced.stages_by_loss()
    ]


def loss_table(lost: LostObjects) -> str:
    """Stages down, sizes across, shaded by the share of the size's objects, as HTML."""
    sizes = [
        f"{escape(name)}<br>{words}"
        for name, words in zip(lost.rules.sizes.names, lost.rules.sizes.words(), strict=True)
    ]
    head = "".join(f"<th>{name}</th>" for name in ("stage", *sizes, "all sizes", "found<br>all the same"))
    despite = dict(zip(PLACE_STAGES, lost.found_despite.tolist(), strict=True))
    stages = "".join(
        _stage_row(words, lost.table[row].tolist(), lost.objects.tolist(), despite.get(stage))
        for row, (stage, words) in enumerate(STAGES.items())
        if stage in lost.stages
    )
    sums = {"missed": lost.table.sum(axis=0), "found": lost.found, "objects": lost.objects}
    bottom = "".join(_sum_row(name, counts.tolist(), lost.objects.tolist()) for name, counts in sums.items())
    return (
        '<div class="table"><table class="shaded">'
        f"<thead><tr>{head}</tr></thead><tbody>{stages}{bottom}</tbody></table></div>"
    )


def within_reach(lost: LostObjects, score: float) -> int:
    """About how many of the objects that scored too low have a right box of their class with at least this score."""
    fates = lost.fates
    low = fates.stages == list(STAGES).index("low_score")
    right = (fates.answer_ious >= lost.rules.iou) & (fates.answer_labels == fates.labels)
    return int(np.count_nonzero(low & right & (fates.answer_scores >= score)))


def _story(stage: str, lost: LostObjects, config: Any) -> list[str]:
    paragraphs = [MEANINGS[stage]]
    if stage == "low_score":
        paragraphs[0] += _rescued(lost)
    if stage in PLACE_STAGES:
        despite = int(lost.found_despite[PLACE_STAGES.index(stage)])
        if despite:
            paragraphs[0] += (
                f" It is not always deadly: {how_many(despite, 'object')} failed it and were found all the same."
            )
    words = remedies(stage, config)
    return [*paragraphs, f"What to try: {'; '.join(words)}."] if words else paragraphs


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


def _stage_row(words: str, counts: list[int], objects: list[int], despite: int | None) -> str:
    cells = "".join(_cell(count, of) for count, of in zip(counts, objects, strict=True))
    total = _cell(sum(counts), sum(objects), "sum")
    found = "" if despite is None else str(despite)
    return f'<tr><td>{escape(words)}</td>{cells}{total}<td class="quiet">{found}</td></tr>'


def _sum_row(name: str, counts: list[int], objects: list[int]) -> str:
    whole = name == "objects"
    pairs = zip([*counts, sum(counts)], [*objects, sum(objects)], strict=True)
    cells = "".join(
        f'<td class="sum">{count if whole else _counted(count, of)}</td>' if of else '<td class="sum"></td>'
        for count, of in pairs
    )
    return f'<tr><td class="sum">{name}</td>{cells}<td></td></tr>'


def _cell(count: int, of: int, kind: str = "") -> str:
    if not count:
        return f'<td class="{kind or "quiet"}">{"0" if of else ""}</td>'
    if kind:
        return f'<td class="{kind}">{_counted(count, of)}</td>'
    if of < TELLING:
        return f"<td>{_counted(count, of)}</td>"
    shade = f"background: color-mix(in srgb, var(--line1) {MOST_SHADE * count / of:.0f}%, transparent)"
    return f'<td style="{shade}">{_counted(count, of)}</td>'


def _counted(count: int, of: int) -> str:
    return f"{count} ({count / of:.0%})" if count else "0"


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
