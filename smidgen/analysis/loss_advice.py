"""What it means that objects are lost at a stage, and which settings of the model at hand to try against it."""

from __future__ import annotations

from typing import Any

MEANINGS: dict[str, str] = {
    "no_token": (
        "No cell of any feature level is theirs alone: they lie outside what the levels cover, or share their cell "
        "with an object beside them. Nothing later can tell such objects apart."
    ),
    "filtered": (
        "The encoder refines only the cells that it judged salient, and none of their cells was among them. The "
        "decoder saw the backbone's raw feature at their place."
    ),
    "not_queried": (
        "The finest level is computed only where the level above it senses a small object. Nothing was sensed at "
        "their place, so the level that could have shown them was never computed there."
    ),
    "not_selected": (
        "The encoder worked on their cells, but none of the places the decoder was asked about lies on them: other "
        "places scored better."
    ),
    "elsewhere": (
        "A query started on them, but where it ended is not their place: it drifted off, or went to a neighbor."
    ),
    "badly_localized": "They were seen, with a good score, but no box overlaps them enough to count as found.",
    "wrong_class": "They were found in the right place under another class's name.",
    "low_score": "An answer lies on them, but it scores below what counts as found.",
    "suppressed": "A right box was there and was removed, because a better one of the same class overlaps it.",
    "limit": "A right box was there and was cut, because an image may only have so many detections.",
}
"""Stage -> what happened to the objects lost there ("they")."""

# What to try: (the field that the model must have, words), in the order to try them. No field: always.
_Remedy = tuple[str, str]
REMEDIES: dict[str, tuple[_Remedy, ...]] = {
    "no_token": (
        ("backbone.strides", "add a finer level to model.backbone.strides (now {value})"),
        ("preprocessing.short_side", "show objects larger with model.preprocessing.short_side (now {value})"),
        ("", "ask `smidgen stats` which of the two these data need"),
    ),
    "filtered": (
        ("level_ratios", "raise model.level_ratios, finest level first (now {value})"),
        ("layer_ratios", "keep more in later layers with model.layer_ratios (now {value})"),
        ("salience_weight", "teach salience more strongly with model.salience_weight (now {value})"),
    ),
    "not_queried": (
        (
            "cascade.threshold",
            "lower model.cascade.threshold (now {value}), or have it chosen for a recall by "
            "python -m smidgen.recipes.cascade_threshold",
        ),
        ("cascade.budget", "raise model.cascade.budget (now {value})"),
        ("sparse_finest.share", "raise model.sparse_finest.share (now {value})"),
    ),
    "not_selected": (
        ("num_queries", "raise model.num_queries (now {value})"),
        ("budgets", "raise model.budgets, the queries of each class of counts (now {value})"),
        ("quotas", "give the levels that hold small objects more of model.quotas (now {value})"),
        ("suppression_iou", "let neighbors stay: raise model.suppression_iou (now {value})"),
        ("num_regions", "raise model.num_regions (now {value})"),
    ),
    "elsewhere": (
        ("", "train longer: young decoders let their queries drift"),
        ("num_queries", "where objects stand close together, raise model.num_queries (now {value})"),
    ),
    "badly_localized": (
        ("preprocessing.short_side", "show objects larger with model.preprocessing.short_side (now {value})"),
        ("scale_weights", "weigh the boxes of small objects more with model.scale_weights (now {value})"),
        ("loss.giou", "weigh boxes more with model.loss.giou (now {value})"),
        ("", "see below whether boxes are off by a pixel or two only (likeness by distance, noise of the labels)"),
    ),
    "wrong_class": (
        ("", "see below what is taken for what: merge classes that nobody can tell apart, label more of the rare ones"),
    ),
    "low_score": (
        ("", "ask for less with --score when you predict"),
        ("", "train longer: scores of small objects rise last"),
        ("loss.classification", "weigh classes more with model.loss.classification (now {value})"),
    ),
    "suppressed": (
        ("readout.nms_iou", "raise model.readout.nms_iou (now {value})"),
        ("nms_iou", "raise model.nms_iou (now {value})"),
    ),
    "limit": (
        ("readout.num_detections", "raise model.readout.num_detections (now {value})"),
        ("num_detections", "raise model.num_detections (now {value})"),
        ("budgets", "raise model.budgets (now {value})"),
    ),
}


def remedies(stage: str, config: Any) -> list[str]:
    """What to try against losses at `stage`, first things first, in terms of the fields that this model has.

    config: the model's; without any field that is asked for, what holds for every model remains.
    """
    found = []
    for field, words in REMEDIES[stage]:
        value = _value(config, field) if field else ""
        if value is not None:
            found.append(words.format(value=_shown(value)))
    return found


def _value(config: Any, dotted: str) -> Any:
    """None where there is no such field, or where it is not set."""
    for name in dotted.split("."):
        config = getattr(config, name, None)
    return config


def _shown(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_shown, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shown(one)}" for key, one in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)
