"""The page that explains a model: what each picture shows and how to read it, for people who have not seen the code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from smidgen.analysis.count_pictures import CountComparison
from smidgen.analysis.query_origins import FOUND_IOU, SIZE_NAMES, OriginCounts
from smidgen.analysis.report import Figure, Report, Section, picture_source, render_report


@dataclass(frozen=True, slots=True)
class Reading:
    """title: of the section. paragraphs: what is shown and how to read it."""

    title: str
    paragraphs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShownImage:
    """An image that was drawn: name and id, number of objects, and by kind its picture's file and numbers."""

    name: str
    image_id: int | str
    objects: int
    files: Mapping[str, Path]
    data: Mapping[str, Any]


IMAGE_PICTURES: dict[str, Reading] = {
    "salience": Reading(
        "Salience over the image",
        (
            "Before it spends work on them, this encoder asks of every cell of every feature level how likely it "
            "belongs to an object: its salience, from 0 to 1. Bright cells are salient, dark ones are background; one "
            "panel per level, titled by its stride (how many pixels of the network's input a cell is wide).",
            "Good to see: bright cells inside the green boxes and darkness elsewhere, small objects bright on fine "
            "levels (small strides) and large ones on coarse levels. Bad: objects that stay dark on every level, "
            "because the encoder will not refine them; or an evenly gray image, because then the choice is arbitrary.",
        ),
    ),
    "refined_tokens": Reading(
        "Tokens refined by each encoder layer",
        (
            "A token is one cell of one level. Each encoder layer refines only the most salient ones; deeper layers "
            "refine fewer. One panel per layer, a dot per refined token, colored by level and larger for larger "
            "strides; the title gives their number and their share of all the image's tokens.",
            "Good to see: the dots draw together on the objects from layer to layer. An object without any dot is "
            "never refined: there the decoder reads the backbone's feature, with what the model adds to background.",
        ),
    ),
    "query_starts": Reading(
        "Where the queries start",
        (
            "The decoder is asked about a limited number of places, its queries. Each starts at the proposal of one "
            "token. One panel per level: small dots are the start points (centers of the proposals); large dots with "
            "a white rim are queries that answer for an object in the end (by the matching of training, on the last "
            "layer), with the box they started from. Green boxes are the truth.",
            "Good to see: start points gathered on objects, tiny objects answered from fine levels, start boxes close "
            "to the true ones. Bad: levels that take most queries but answer for nothing; clusters on one object while "
            "others have no start nearby.",
        ),
    ),
}

CHARTS: dict[str, Reading] = {
    "query_levels": Reading(
        "Levels of the queries, by size of the object",
        (
            "Over all images. The first bar divides all queries by the level they started on. The other bars take the "
            "objects of one size and divide them by the level on which the query started that answers for them (the "
            "matching of training, on the last decoder layer). Size is the square root of the box's area in pixels of "
            "the network's input. Gray: objects for which no query was left.",
            "Read it by comparing the first bar with the ones of small objects: if those are answered from fine levels "
            "but few queries start there, the selection starves them. The matching pairs every object with some query, "
            f"near or far; the table's last column says how many of these pairs overlap with an IoU of {FOUND_IOU} or "
            "more. With an untrained model the colors mean nothing.",
        ),
    ),
    "counting": Reading(
        "Counted and true objects",
        (
            "The model sorts each image into a class of object counts, and the class decides how many queries the "
            "image gets. Left: every image at its true number of objects and the class it was taken for; vertical "
            "lines are the boundaries, and dots in the shaded fields are right. Middle: the queries it got; dots below "
            "the dashed line have more objects than queries, so some cannot be found. Right: how often which class "
            "was taken for which.",
            "Too low (red) costs objects; too high (orange) costs only time.",
        ),
    ),
}


def explanation_page(
    *,
    model_name: str,
    split: str,
    images: int,
    objects: int,
    shown: Sequence[ShownImage],
    charts: Mapping[str, Path],
    missing: Mapping[str, str],
    origins: OriginCounts | None,
    counting: CountComparison | None,
) -> str:
    """The page as HTML that needs nothing else. charts, missing: by kind, the chart's file or why there is none."""
    tables = {"query_levels": _origin_table(origins), "counting": _count_table(counting)}
    sections = [_overview(missing)]
    sections += [_chart_section(kind, charts[kind], tables[kind]) for kind in CHARTS if kind in charts]
    sections += [_image_section(kind, shown) for kind in IMAGE_PICTURES if any(kind in image.files for image in shown)]
    report = Report(
        title=f"How {model_name} looks at the images",
        lead=f"Where it spends its work on the split {split!r}, and for which objects.",
        facts=_facts(images, objects, origins, counting),
        sections=sections,
    )
    return render_report(report)


def _facts(
    images: int, objects: int, origins: OriginCounts | None, counting: CountComparison | None
) -> list[tuple[str, str]]:
    facts = [(str(images), "images"), (str(objects), "labeled objects of its classes")]
    if origins is not None:
        facts.append((f"{origins.queries.sum() / max(origins.images, 1):.0f}", "queries per image, on average"))
        found = origins.found.sum() / max(origins.objects.sum(), 1)
        facts.append((f"{found:.0%}", f"objects whose query ends with an IoU of {FOUND_IOU} or more"))
    if counting is not None:
        facts.append((f"{counting.accuracy:.0%}", "images counted into the right class"))
    return facts


def _overview(missing: Mapping[str, str]) -> Section:
    """Which sections apply to this model and why others do not."""
    rows = [["picture", "here"]]
    for kind, reading in {**CHARTS, **IMAGE_PICTURES}.items():
        rows.append([reading.title, f"no: {missing[kind]}" if kind in missing else "yes"])
    words = "Each picture needs something that the model does; a model that does not do it has no such section."
    return Section(title="What there is to see", paragraphs=[words], tables=[rows])


def _chart_section(kind: str, chart: Path, table: Sequence[Sequence[str]]) -> Section:
    reading = CHARTS[kind]
    figure = Figure(_source(chart), f"{chart.name}; the numbers also stand in tables.json")
    return Section(title=reading.title, paragraphs=reading.paragraphs, tables=[table], pictures=[[figure]])


def _image_section(kind: str, shown: Sequence[ShownImage]) -> Section:
    reading = IMAGE_PICTURES[kind]
    rows = [
        [Figure(_source(image.files[kind]), f"{image.name}: {image.objects} labeled objects")]
        for image in shown
        if kind in image.files
    ]
    return Section(title=reading.title, paragraphs=reading.paragraphs, pictures=rows)


def _source(file: Path) -> str:
    with Image.open(file) as picture:
        return picture_source(picture)


def _origin_table(origins: OriginCounts | None) -> list[list[str]]:
    if origins is None:
        return []
    header = ["", *(f"stride {stride}" for stride in origins.strides), "no query left", "in all", "IoU 0.5"]
    rows = [header, ["all queries", *map(str, origins.queries.tolist()), "", str(origins.queries.sum()), ""]]
    for number, name in enumerate(SIZE_NAMES):
        matched, objects, found = origins.matched[number], origins.objects[number], origins.found[number]
        share = f"{found / objects:.0%}" if objects else "-"
        rows.append([f"objects {name}", *map(str, matched.tolist()), str(objects - matched.sum()), str(objects), share])
    return rows


def _count_table(counting: CountComparison | None) -> list[list[str]]:
    if counting is None:
        return []
    header = ["objects in the image", "images", "right class", "queries, fewest - most"]
    rows = [header]
    for number, name in enumerate(counting.class_names):
        images = [image for image in counting.images if counting.true_class(image) == number]
        queries = [image.queries for image in images]
        right = sum(image.counted_class == number for image in images)
        budget = f"{min(queries)} - {max(queries)}" if queries else "-"
        rows.append([name, str(len(images)), str(right), budget])
    return rows
