"""The page that explains a model: what each picture shows and how to read it, for people who have not seen the code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from smidgen.analysis.cascade_pictures import ComputedShares
from smidgen.analysis.count_pictures import CountComparison
from smidgen.analysis.detection_counts import DetectionCounts
from smidgen.analysis.effective_receptive_field import SHARES, ReceptiveField
from smidgen.analysis.pattern_usage import PatternUsage
from smidgen.analysis.quality_assignment import AssignmentCounts
from smidgen.analysis.query_activation import ActivationCounts, gini, inequality
from smidgen.analysis.query_origins import FOUND_IOU, SIZE_NAMES, OriginCounts
from smidgen.analysis.report import Figure, Report, Section, picture_source, render_report
from smidgen.analysis.score_by_size import ScoresBySize

ACTIVE_WHERE = {
    "score": "has a class score above 0.3",
    "matched": "answers for an object",
    "topk": "is in the 100 best detections",
}


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
    "cross_gate": Reading(
        "What the decoder reads of backbone and encoder",
        (
            "This model's decoder reads neither the encoder's features alone nor the backbone's: for each cell and "
            "channel a gate between 0 and 1 says how much of the encoder is taken, and the backbone fills the rest. "
            "All on the finest level, for the channel that varies most in the result; each map has its own scale of "
            "colors, which its title names with the means inside the green boxes and elsewhere.",
            "Good to see: a gate with the shapes of the image, different on objects and beside them, and small "
            "objects clearer in the coded map than in the encoder's. Bad: a gate of one color, because then the two "
            "are mixed blindly. The numbers by level also stand in tables.json.",
        ),
    ),
    "query_heat": Reading(
        "Where small objects are sensed",
        (
            "This detector's query head asks of every cell whether the center of a small object is near, with a score "
            "from 0 to 1; one panel per level that it was taught on. Green boxes are small on the level, white ones "
            "are not. Cells above the threshold have their children on the next finer level computed.",
            "Good to see: bright spots on the green boxes and darkness elsewhere. Bad: green boxes in the dark, "
            "because the finer levels will not look there; or brightness everywhere, because then nothing is saved. "
            "The maps are those of all cells; on finer levels the cascade asks only some of them.",
        ),
    ),
    "computed_cells": Reading(
        "What was computed of the finest levels",
        (
            "One panel per level that is computed only in part. Orange cells are the keys: they answer, as the query "
            "scores of the level above told them to. Blue cells are their context, computed only because the keys' "
            "convolutions read them. Everything else was skipped. The title counts, of the objects that are small to "
            "the level above, those with a key at their center.",
            "Good to see: every small object under orange, little blue. Bad: small objects without any color: their "
            "boxes can only come from coarser levels. Then lower model.cascade.threshold, or have it chosen for a "
            "recall: python -m smidgen.recipes.cascade_threshold.",
        ),
    ),
    "finest_level": Reading(
        "A finest level in part",
        (
            "This model's finest level has tokens only where the level above it sees a small object near. Left: its "
            "query map, a score from 0 to 1 for each cell. Right, in orange: the tokens of the finest level that this "
            "gave, a fixed share of the image (model.sparse_finest.share); the decoder knows no others.",
            "Good to see: orange on every small object and little elsewhere. Bad: small objects without orange, which "
            "only coarser levels can find, while the share is spent on background. The share is always used up, so an "
            "image without small objects shows orange, too.",
        ),
    ),
    "class_activation": Reading(
        "Class activation on the encoder's fine levels",
        (
            "How strongly the feature of each cell speaks for a class: the class's weights in the class head times the "
            "feature, negative values cut, each map stretched so that its strongest cell is bright. A row of panels "
            "per level, a panel per class that the image holds most of; green boxes are the class's objects. Where "
            "the model only tells objects from background at this stage, the class is called object.",
            "Good to see: bright cells on the objects and darkness elsewhere, tiny objects on the finest level. Bad: "
            "bright background with dark objects, because then no query will start at them. Maps are stretched one by "
            "one: brightness cannot be compared between panels, the means in their titles can.",
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
    "query_activation": Reading(
        "How the queries share the work",
        (
            "A query is a row of the decoder. Over all images, how often was each one active? By three definitions: "
            "its best class score is above 0.3; it answers for an object by the matching of training; it is in one of "
            "the image's 100 best detections. Top left: the share of images, of those in which the query exists at "
            "all (some images have fewer), most active query first. Top right: the "
            "least active part of the queries against its part of all activity; the Gini coefficient is 0 where all "
            "are alike and near 1 where few do everything. Bottom left: which share of the queries answers for an "
            "object at all, and the Gini of it, by decoder layer. Bottom right: activity by the level on which the "
            "query started.",
            "Read it with care in two-stage models, whose queries start at proposals: there the first query is always "
            "the best proposal, the second the next, so a few objects per image keep only the first rows busy, "
            "and a high Gini partly tells of this ranking. The bars by level do not depend on it. In models whose "
            "queries start at learned places, a long flat tail is idle capacity.",
        ),
    ),
    "quality_assignment": Reading(
        "Queries that answer for an object on earlier layers",
        (
            "In training the decoder's last layer has one query for each object, the earlier ones several: the better "
            "an object's best queries lie, the more of them are told to find it. Left: how many queries an object asks "
            "for and gets, by layer. Right: how well these lie on their objects, how many hardly overlap them, and how "
            "many queries several objects want.",
            "Good to see: more queries and a higher IoU in later layers. Bad: always one query, as if the rule were "
            "not there; or many that hardly overlap (then try model.quality.iou_min=0.1, since confident poor boxes "
            "rank behind plain background).",
        ),
    ),
    "pattern_usage": Reading(
        "Patterns that the queries are mixed from",
        (
            "This model mixes each query's content from a fixed set of learned patterns, with weights that depend on "
            "the image. Top: the mean weight of each pattern over all queries, most used first, and over the queries "
            "that found something (line). Gray patterns hardly ever have a weight above 0.1. Effective patterns: how "
            "many equally used ones would be as diverse. Below, where something was found (overlap above 0.7, score "
            "above 0.5, right class): the mean weights by class, and how alike the classes' weights are (cosine, "
            "1 = the same).",
            "Good to see: many effective patterns, related classes sharing some and unrelated ones few. Bad: one "
            "pattern that has it all, or as good as even weights in every row, because then the image decides nothing.",
        ),
    ),
    "pattern_embedding": Reading(
        "Images by how their queries are mixed",
        (
            "Each dot is an image, placed by t-SNE so that images whose queries are mixed alike lie together; the "
            "color is the class with most objects in it. The figures above the picture are of the weights themselves: "
            "the share of an image's ten nearest neighbors with the same color, and the silhouette (1 = groups far "
            "apart, 0 = mixed).",
            "Distances between clusters, and their sizes, mean nothing in such a picture; trust the figures first, and "
            "compare the share of neighbors with the share of the most frequent color.",
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
    "computed_shares": Reading(
        "Cells that the cascade computed",
        (
            "Over all images, what share of each sparse level's cells was computed (solid), and what share answered "
            "(dashed), images with most first. What lies between the two lines is context.",
            "Time on these levels follows the solid line. A few images far above the others set the longest time: a "
            "budget (model.cascade.budget) caps them. python -m smidgen.recipes.cascade_tradeoff measures what "
            "thresholds and budgets cost in accuracy.",
        ),
    ),
    "score_by_size": Reading(
        "Scores by size of the object",
        (
            "The mean score of all detections with a score of at least 0.4, by the size of the detected box: the "
            "square root of its area in pixels of the network's input. The number in each bar says over how many.",
            "Detectors tend to be less sure of small objects, so one threshold for all loses those first: compare the "
            "bars before choosing --score. A size without any bar is either absent or never seen: the section on "
            "levels and sizes says which.",
        ),
    ),
    "detection_counts": Reading(
        "Number of detections and of objects",
        (
            "Left: detections per image that remain from a score on (blue) against the labeled objects (dashed), and "
            "by how many an image is wrong on average, too many or too few (red). Right: image by image, at the score "
            "where this is least.",
            "This score is a good start for --score where the number matters. It says nothing about whether the boxes "
            "lie on objects; `smidgen evaluate` does.",
        ),
    ),
    "receptive_field": Reading(
        "Effective receptive field",
        (
            "How much each pixel of the input changes the feature in the middle of the image, level by level of "
            "backbone and neck (gradients, on a logarithmic scale, summed over images that were resized to squares). "
            "The squares hold half (solid) and 99 % (dashed) of what is drawn.",
            "Small objects need a compact bright center on the fine levels; context needs a wide one on the coarse "
            "levels. Group norms let every pixel reach every cell a little, which shows as an even haze.",
        ),
    ),
}


def explanation_page(
    *,
    model_name: str,
    class_names: Sequence[str],
    split: str,
    images: int,
    objects: int,
    shown: Sequence[ShownImage],
    charts: Mapping[str, Path],
    missing: Mapping[str, str],
    totals: Mapping[str, Any],
    receptive_fields: Mapping[str, ReceptiveField],
) -> str:
    """The page as HTML that needs nothing else. charts, missing: by kind, the chart's file or why there is none.
    totals: by kind, what the chart shows.
    """
    tables = {kind: table(totals[kind]) for kind, table in TABLES.items() if kind in totals}
    tables |= {"receptive_field": _field_table(receptive_fields)}
    if "pattern_usage" in totals:
        tables["pattern_usage"] = _pattern_table(totals["pattern_usage"], class_names)
    sections = [_overview(missing)]
    sections += [_chart_section(kind, charts[kind], tables.get(kind, [])) for kind in CHARTS if kind in charts]
    sections += [_image_section(kind, shown) for kind in IMAGE_PICTURES if any(kind in image.files for image in shown)]
    report = Report(
        title=f"How {model_name} looks at the images",
        lead=f"Where it spends its work on the split {split!r}, and for which objects.",
        facts=_facts(images, objects, totals),
        sections=sections,
    )
    return render_report(report)


def _facts(images: int, objects: int, totals: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [(str(images), "images"), (str(objects), "labeled objects of its classes")]
    origins: OriginCounts | None = totals.get("query_levels")
    counting: CountComparison | None = totals.get("counting")
    activation: ActivationCounts | None = totals.get("query_activation")
    if origins is not None:
        facts.append((f"{origins.queries.sum() / max(origins.images, 1):.0f}", "queries per image, on average"))
        found = origins.found.sum() / max(origins.objects.sum(), 1)
        facts.append((f"{found:.0%}", f"objects whose query ends with an IoU of {FOUND_IOU} or more"))
    if activation is not None:
        facts.append((f"{gini(activation.rates('score')):.2f}", "Gini coefficient of the queries' activity"))
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


def _origin_table(origins: OriginCounts) -> list[list[str]]:
    header = ["", *(f"stride {stride}" for stride in origins.strides), "no query left", "in all", "IoU 0.5"]
    rows = [header, ["all queries", *map(str, origins.queries.tolist()), "", str(origins.queries.sum()), ""]]
    for number, name in enumerate(SIZE_NAMES):
        matched, objects, found = origins.matched[number], origins.objects[number], origins.found[number]
        share = f"{found / objects:.0%}" if objects else "-"
        rows.append([f"objects {name}", *map(str, matched.tolist()), str(objects - matched.sum()), str(objects), share])
    return rows


def _count_table(counting: CountComparison) -> list[list[str]]:
    header = ["objects in the image", "images", "right class", "queries, fewest - most"]
    rows = [header]
    for number, name in enumerate(counting.class_names):
        images = [image for image in counting.images if counting.true_class(image) == number]
        queries = [image.queries for image in images]
        right = sum(image.counted_class == number for image in images)
        budget = f"{min(queries)} - {max(queries)}" if queries else "-"
        rows.append([name, str(len(images)), str(right), budget])
    return rows


def _activation_table(counts: ActivationCounts) -> list[list[str]]:
    rows = [["a query is active where it", "Gini", "part of the top fifth", "ever active", "entropy"]]
    for name, words in ACTIVE_WHERE.items():
        figures = inequality(counts.rates(name))
        shares = [f"{figures[key]:.0%}" for key in ("pareto_20", "active_fraction")]
        rows.append([words, f"{figures['gini']:.3f}", *shares, f"{figures['entropy']:.2f}"])
    return rows


def _assignment_table(counts: AssignmentCounts) -> list[list[str]]:
    rows = [["decoder layer", "asked per object", "answering per object", "mean IoU", "IoU below 0.1", "contested"]]
    for row in counts.to_json()["layers"]:
        numbers = [row[key] for key in ("asked_per_object", "positives_per_object", "mean_iou", "poor", "contested")]
        rows.append([str(row["layer"] + 1), *("-" if value is None else f"{value:.2f}" for value in numbers)])
    return rows


def _pattern_table(usage: PatternUsage, class_names: Sequence[str]) -> list[list[str]]:
    values = usage.to_json()
    rows = [["class", "true detections", "effective patterns"]]
    rows.append(["all queries", "", f"{values['effective_patterns']:.1f}"])
    for row in values["by_class"]:
        rows.append([class_names[row["class"]], str(row["true_detections"]), f"{row['effective_patterns']:.1f}"])
    return rows


def _computed_table(shares: ComputedShares) -> list[list[str]]:
    rows = [["level", "keys", "computed", "computed, most in an image"]]
    for row in shares.to_json()["levels"]:
        values = [f"{row[key]:.1%}" for key in ("keys", "computed", "most_computed")]
        rows.append([f"stride {row['stride']} px", *values])
    return rows


def _score_table(scores: ScoresBySize) -> list[list[str]]:
    rows = [["size of the detected box", "detections", "mean score"]]
    for row in scores.to_json()["by_size"]:
        mean = "-" if row["mean_score"] is None else f"{row['mean_score']:.3f}"
        rows.append([row["size"], str(row["detections"]), mean])
    return rows


def _detection_table(counts: DetectionCounts) -> list[list[str]]:
    rows = [["least score", "detections per image", "too many or too few, per image"]]
    for row in counts.to_json()["by_threshold"][1::2]:
        rows.append([f"{row['score']:g}", f"{row['detections_per_image']:.1f}", f"{row['mean_error']:.1f}"])
    return rows


def _field_table(fields: Mapping[str, ReceptiveField]) -> list[list[str]]:
    header = ["side of the square that holds", *(f"{share:.0%}" for share in SHARES)]
    rows = [[f"{name}, stride {one.stride} px", *(f"{one.side_px(share)} px" for share in SHARES)]
            for name, one in fields.items()]  # fmt: skip
    return [header, *rows]


TABLES: dict[str, Callable[[Any], list[list[str]]]] = {
    "query_levels": _origin_table,
    "query_activation": _activation_table,
    "quality_assignment": _assignment_table,
    "counting": _count_table,
    "computed_shares": _computed_table,
    "score_by_size": _score_table,
    "detection_counts": _detection_table,
}
