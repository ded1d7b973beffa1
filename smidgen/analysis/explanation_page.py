"""The page that explains a model: in short, what it missed and why, its kinds of error, its inside, single images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from smidgen.analysis.count_pictures import CountComparison
from smidgen.analysis.dataset_advice.advice import percent
from smidgen.analysis.effective_receptive_field import ReceptiveField
from smidgen.analysis.error_sections import error_sections, judged_section
from smidgen.analysis.in_short import in_short
from smidgen.analysis.judged import Judged
from smidgen.analysis.loss_sections import overview_section, rules_in_words, stage_sections
from smidgen.analysis.measurement_tables import measurement_tables
from smidgen.analysis.panels import how_many
from smidgen.analysis.picture_readings import CHARTS, IMAGE_PICTURES, Reading
from smidgen.analysis.query_origins import OriginCounts
from smidgen.analysis.report import Chapter, Figure, Report, Section, picture_source, render_report
from smidgen.analysis.traced_losses import TracedLosses

SHOWN_SHARE = 0.8
"""Pictures are shown smaller than they were drawn: sharp on fine screens, and their words as large as the page's."""


@dataclass(frozen=True, slots=True)
class ShownImage:
    """An image that was drawn: name and id, number of objects, and by kind its picture's file and numbers."""

    name: str
    image_id: int | str
    objects: int
    files: Mapping[str, Path]
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What was found on the images of a split.

    config: the model's. totals: by kind of measurement, the sum over all images. receptive_fields: by level. missing:
    by kind of picture, why there is none.
    """

    model_name: str
    config: Any
    class_names: Sequence[str]
    split: str
    images: int
    judged: Judged
    totals: Mapping[str, Any]
    receptive_fields: Mapping[str, ReceptiveField]
    missing: Mapping[str, str]

    @property
    def losses(self) -> TracedLosses:
        """Where objects were lost."""
        losses: TracedLosses = self.totals["loss_of_objects"]
        return losses


def explanation_page(
    findings: Findings,
    *,
    charts: Mapping[str, Path],
    errors: Mapping[str, Path],
    shown: Sequence[ShownImage],
) -> str:
    """The page as HTML that needs nothing else. Files of pictures: charts by kind of measurement, errors by part of the
    error analysis, shown by image.
    """
    chapters = [
        _misses(findings),
        _reasons(findings),
        _errors(findings, errors),
        _inside(findings, charts),
        _single_images(shown),
        _not_here(findings.missing),
    ]
    return render_report(
        Report(
            title=f"What {findings.model_name} finds, what it misses, and why",
            lead=f"On {how_many(findings.images, 'image')} of the split {findings.split!r}.",
            summary=in_short(findings.losses, findings.judged, findings.config),
            facts=_facts(findings),
            small_print=_small_print(findings),
            chapters=[chapter for chapter in chapters if chapter.sections],
        )
    )


def _facts(findings: Findings) -> list[tuple[str, str]]:
    lost = findings.losses.lost
    objects = int(lost.objects.sum())
    facts = [(percent(int(lost.found.sum()) / objects), f"of {objects} objects found")] if objects else []
    facts += findings.judged.headlines()
    origins: OriginCounts | None = findings.totals.get("query_levels")
    counting: CountComparison | None = findings.totals.get("counting")
    if origins is not None:
        facts.append((f"{origins.queries.sum() / max(origins.images, 1):.0f}", "queries per image"))
    if counting is not None:
        facts.append((f"{counting.accuracy:.0%}", "images counted into the right class"))
    return facts


def _small_print(findings: Findings) -> str:
    return f"AP and its kin by {findings.judged.evaluation.protocol}. {rules_in_words(findings.losses.lost)}"


def _misses(findings: Findings) -> Chapter:
    return Chapter(
        title="What was missed",
        lead="Every object that was missed, by its size and by where it was lost on its way through the detector.",
        sections=[overview_section(findings.losses)],
    )


def _reasons(findings: Findings) -> Chapter:
    return Chapter(
        title="Why, stage by stage",
        lead=(
            "What each loss means, what to try against it, and its worst examples: in green the missed object, in "
            "magenta the answer that came closest, in blue other objects."
        ),
        sections=stage_sections(findings.losses, findings.config),
    )


def _errors(findings: Findings, errors: Mapping[str, Path]) -> Chapter:
    pictures = {
        kind: _figure(file, f"{file.name}; the numbers also stand in tables.json") for kind, file in errors.items()
    }
    judged = findings.judged
    return Chapter(
        title="Kinds of error",
        lead=(
            "What average precision is made of. Here false alarms count beside misses, boxes must fit more and more "
            "tightly, and a class counts the same however rare it is: figures are lower than the share found."
        ),
        sections=[judged_section(judged), *error_sections(judged, pictures)],
    )


def _inside(findings: Findings, charts: Mapping[str, Path]) -> Chapter:
    tables = measurement_tables(findings.totals, findings.receptive_fields, findings.class_names)
    return Chapter(
        title="How the system works inside",
        lead="Where it spends its work, over all images.",
        sections=[_chart_section(kind, charts[kind], tables.get(kind, [])) for kind in CHARTS if kind in charts],
    )


def _chart_section(kind: str, chart: Path, table: Sequence[Sequence[str]]) -> Section:
    reading = CHARTS[kind]
    figure = _figure(chart, f"{chart.name}; the numbers also stand in tables.json")
    return Section(title=reading.title, paragraphs=reading.paragraphs, tables=[table], pictures=[[figure]])


def _single_images(shown: Sequence[ShownImage]) -> Chapter:
    kinds = [kind for kind in IMAGE_PICTURES if any(kind in image.files for image in shown)]
    return Chapter(
        title="Single images",
        lead=f"How the system looks at the first {how_many(len(shown), 'image')}.",
        sections=[_image_section(kind, [image for image in shown if kind in image.files]) for kind in kinds],
    )


def _image_section(kind: str, shown: Sequence[ShownImage]) -> Section:
    reading = IMAGE_PICTURES[kind]
    rows = [
        [_figure(image.files[kind], f"{image.name}: {how_many(image.objects, 'labeled object')}")] for image in shown
    ]
    more = f"{how_many(len(rows) - 1, 'more image')}"
    return Section(title=reading.title, paragraphs=reading.paragraphs, pictures=rows, more=more)


def _not_here(missing: Mapping[str, str]) -> Chapter:
    """What the model has nothing to say about, in a line each."""
    readings: dict[str, Reading] = {**CHARTS, **IMAGE_PICTURES}
    rows = [[readings[kind].title, reason] for kind, reason in missing.items() if kind in readings]
    words = "Each picture needs something that the model does; a model that does not do it has no such picture."
    section = Section(
        title="What does not apply to this model", paragraphs=[words], tables=[[["picture", "because"], *rows]]
    )
    return Chapter(title="Not here", lead="Left out, and why.", sections=[section] if rows else [])


def _figure(file: Path, caption: str) -> Figure:
    with Image.open(file) as picture:
        width, height = (round(side * SHOWN_SHARE) for side in picture.size)
        return Figure(picture_source(picture), caption, (width, height))
