"""What kinds of error cost how much: the protocol's figures, then each part of the error analysis with its reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from smidgen.analysis.error_analysis import ErrorAnalysis
from smidgen.analysis.judged import Judged
from smidgen.analysis.panels import how_many
from smidgen.analysis.report import Figure, Section
from smidgen.evaluation.error_types import ERROR_TYPES, SizeErrors
from smidgen.evaluation.rules_in_words import rules_in_words

ERROR_WORDS: dict[str, str] = {
    "Cls": "wrong classes on good boxes",
    "Loc": "poor boxes",
    "Both": "poor boxes with a wrong class",
    "Dupe": "second boxes on objects found before",
    "Bkg": "detections where nothing is",
    "Miss": "objects without any answer",
}


@dataclass(frozen=True, slots=True)
class ErrorReading:
    """title, explanation: of a section. here: what it comes to for these detections, in a sentence; empty = nothing."""

    title: str
    explanation: str
    here: Callable[[ErrorAnalysis], str]


def judged_section(judged: Judged) -> Section:
    """The protocol's figures by size and by class, and what they rest on."""
    evaluation, settings = judged.evaluation, judged.evaluation.settings
    words = f"{evaluation.protocol}: {'; '.join(rules_in_words(settings).splitlines())}."
    absent = settings.get("classes_not_in_model")
    if absent:
        words += f" The model does not know {', '.join(absent)}: objects of these classes count as missed here."
    return Section(
        title=f"Figures by {evaluation.protocol}",
        paragraphs=[words, f"{_counts(judged)} `smidgen evaluate` gives the same figures."],
        tables=[_size_table(judged), _class_table(judged)],
    )


def error_sections(judged: Judged, pictures: Mapping[str, Figure]) -> list[Section]:
    """A section for every part that there is."""
    return [
        Section(
            title=reading.title,
            paragraphs=[text for text in (reading.here(judged.errors), reading.explanation) if text],
            pictures=[[pictures[kind]]],
        )
        for kind, reading in ERROR_READINGS.items()
        if kind in pictures
    ]


def costliest_errors(analysis: ErrorAnalysis) -> list[tuple[str, float]]:
    """Types of error and the AP in points that mending each gains over all sizes, most first."""
    every: SizeErrors = analysis.errors.by_size[0]
    gains = [(name, 100 * every.gain[name]) for name in ERROR_TYPES if every.objects]
    return sorted((item for item in gains if item[1] > 0), key=lambda item: -item[1])


def _counts(judged: Judged) -> str:
    settings = judged.evaluation.settings
    skipped = f" ({len(settings['skipped'])} unreadable)" if settings.get("skipped") else ""
    return (
        f"{how_many(settings['images'], 'image')}{skipped}, {how_many(settings['objects'], 'object')}, "
        f"{how_many(settings['detections'], 'detection')}."
    )


def _size_table(judged: Judged) -> list[list[str]]:
    evaluation, settings = judged.evaluation, judged.evaluation.settings
    rows = [["size", "side in px", "objects", "AP", "AR"]]
    for name, (low, high) in settings["areas"].items():
        figures = settings["figures_by_area"].get(name, {})
        values = [judged.shown(evaluation.metrics[figures[kind]]) if kind in figures else "" for kind in ("AP", "AR")]
        upper = f"{high**0.5:g}" if high < 1e10 else "any"
        rows.append([name, f"{low**0.5:g} to {upper}", str(settings["objects_by_area"].get(name, "")), *values])
    return rows


def _class_table(judged: Judged) -> list[list[str]]:
    evaluation = judged.evaluation
    first: Mapping[str, float] = next(iter(evaluation.per_class.values()), {})
    names = [name for name in first if not name.startswith("AR")][:6]
    rows = [["class", "objects", *names]]
    for name, values in evaluation.per_class.items():
        objects = str(evaluation.settings["objects_by_class"].get(name, ""))
        rows.append([name, objects, *(judged.shown(values[figure]) for figure in names)])
    return rows


def _errors_here(analysis: ErrorAnalysis) -> str:
    costs = costliest_errors(analysis)
    if not costs:
        return ""
    name, gain = costs[0]
    words = f"Most would be gained by mending {ERROR_WORDS[name]} ({name}): {gain:.1f} points of AP"
    if len(costs) > 1:
        words += f"; then {ERROR_WORDS[costs[1][0]]} ({costs[1][0]}): {costs[1][1]:.1f}"
    return f"{words}."


def _confusion_here(analysis: ErrorAnalysis) -> str:
    confusion = analysis.confusion
    if len(confusion.names) < 2:
        return ""
    if not confusion.worst:
        return "No object was taken for one of another class."
    true, detected, count = confusion.worst[0]
    return f"Most often {true} was taken for {detected}: {how_many(count, 'time')}."


def _calibration_here(analysis: ErrorAnalysis) -> str:
    if analysis.calibration is None:
        return ""
    every = analysis.calibration.by_size[0]
    if not every.detections.any():
        return f"No detection scores {analysis.calibration.least_score:g} or more."
    points = 100 * every.overconfidence
    promise = "promise too much" if points > 0 else "promise too little"
    return (
        f"Over all sizes, scores {promise} by {abs(points):.0f} points on average (mean score minus the share that is "
        f"right); the expected calibration error is {100 * every.expected_error:.0f} points."
    )


def _curves_here(analysis: ErrorAnalysis) -> str:
    best = analysis.curves.pooled[0].best
    if best is None:
        return "No detection is right."
    return (
        f"At a score of {best.score:.2f}, F1 is best: {best.recall:.0%} of the objects are found, and "
        f"{best.precision:.0%} of the detections are right. A good start for --score."
    )


def _noise_here(analysis: ErrorAnalysis) -> str:
    noise = analysis.label_noise
    shown = [one for one in noise.by_size if one.objects] if noise is not None else []
    if noise is None or not shown:
        return ""
    worst = min(shown, key=lambda one: one.ceiling)
    return (
        f"Of objects of size {worst.size}, a detector that draws every box exactly as first labeled would still only "
        f"score an AP of {worst.ceiling:.2f} against labels that are off by up to {noise.pixels:g} px."
    )


def _wasserstein_here(analysis: ErrorAnalysis) -> str:
    shown = [one for one in analysis.wasserstein.by_size if one.objects]
    if not shown:
        return ""
    gap = max(shown, key=lambda one: one.wasserstein_lowest - one.iou_lowest)
    if gap.wasserstein_lowest <= gap.iou_lowest:
        return ""
    return (
        f"The two differ most at size {gap.size}: AP {gap.iou_lowest:.2f} by overlap and "
        f"{gap.wasserstein_lowest:.2f} by distance, both at a threshold of {analysis.wasserstein.lowest:g}."
    )


ERROR_READINGS: dict[str, ErrorReading] = {
    "error_types": ErrorReading(
        "Types of error, by size",
        "Each wrong detection is put down to one of six types (TIDE). The numbers say how much AP would rise if all "
        "errors of the type were mended and nothing else; small ones below them count the errors. Types do not add up: "
        "mending one can hide another. FP and FN on the right mend all false alarms, or all objects not found. Sizes "
        "with few objects are gray, because one object more or less changes everything there.",
        _errors_here,
    ),
    "confusion": ErrorReading(
        "What is taken for what",
        "Rows are true classes, columns what they were detected as; the last column counts objects that were missed, "
        "the last row detections where no object is. A strong diagonal is good. A strong square beside it names two "
        "classes that the detector, or the labels, do not keep apart.",
        _confusion_here,
    ),
    "calibration": ErrorReading(
        "Can scores be believed?",
        "Detections are sorted by their score, and for each step the share that is right is drawn. On the diagonal, a "
        "score of 0.7 is right in seven of ten cases. Below it, scores promise too much; above it, too little. If "
        "sizes differ, one threshold for all treats them differently: small objects above the diagonal deserve a "
        "lower one.",
        _calibration_here,
    ),
    "precision_recall": ErrorReading(
        "Precision and recall",
        "As the score threshold falls, more objects are found (to the right) and more detections are wrong (down). A "
        "curve that ends early says that some objects cannot be had at any threshold; a curve that falls early says "
        "that confident detections are wrong. The area under a curve is its AP.",
        _curves_here,
    ),
    "wasserstein": ErrorReading(
        "Overlap against distance: were small objects missed, or just boxed a little off?",
        "One pixel costs a large box nothing and a tiny one half its overlap. The normalized Wasserstein distance "
        "asks instead how far a box is off in pixels. Where AP by distance is much higher than by overlap, objects "
        "were seen, and boxed a few pixels off. The two are no scales of each other.",
        _wasserstein_here,
    ),
    "label_noise": ErrorReading(
        "How far can these figures be trusted?",
        "Nobody labels to the pixel. The same detections are judged again by labels whose edges were moved at random: "
        "differences between models that are smaller than this effect say nothing. Red lines are what a perfect "
        "detector could still reach.",
        _noise_here,
    ),
}
