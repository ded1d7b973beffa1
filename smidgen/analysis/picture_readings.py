"""What each picture of a system's inside shows and how to read it, for people who have not seen the code."""

from __future__ import annotations

from dataclasses import dataclass

from smidgen.analysis.query_origins import FOUND_IOU


@dataclass(frozen=True, slots=True)
class Reading:
    """title: of the section. paragraphs: what is shown and how to read it."""

    title: str
    paragraphs: tuple[str, ...]


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
