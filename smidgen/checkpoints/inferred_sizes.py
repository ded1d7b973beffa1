"""Sizes of a model, read off the shapes of an official checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from smidgen.checkpoints.renaming import Layout

# Field of the configuration, and the tensor (by our name) and axis that tell its value.
_TOLD_BY = (
    ("num_classes", "decoder.refinement.class_heads.0.weight", 0),
    ("num_classes", "decoder.refinement.class_head.weight", 0),
    ("num_queries", "content.table.weight", 0),
    ("num_queries", "selection.table.weight", 0),
    ("num_queries", "selection.logits.weight", 0),
    ("num_levels", "flatten.level_embed", 0),
    ("label_rows", "denoising.label_encoder.weight", 0),
    ("transformer.width", "flatten.level_embed", 1),
    ("transformer.feed_forward", "encoder.layers.0.feed_forward.linear1.weight", 0),
    ("transformer.num_heads", "decoder.relation.projection.weight", 0),
    ("background_rows", "encoder.encoder.background.row.weight", 0),
)
_STRIDES = (4, 8, 16, 32)


def dense_sizes(layout: Layout, official: Mapping[str, Tensor]) -> dict[str, Any]:
    """Fields of a dense detector's configuration, nested as it is; without `num_classes` where there is no head."""
    shapes = _Shapes(layout, official)
    class_rows, box_rows = shapes.of("head.class_prediction.weight"), shapes.of("head.box_prediction.weight")
    if class_rows is None or box_rows is None:
        return {}
    merged = shapes.count("neck.laterals.{}.weight")
    return {
        "num_classes": class_rows[0] // max(box_rows[0] // 4, 1),  # rows of all anchors, by rows of an anchor's box
        "width": class_rows[1],
        "head_layers": shapes.count("head.class_tower.convolutions.{}.weight"),
        "num_levels": merged + shapes.count("neck.top.{}.weight"),
        "backbone": {"strides": _STRIDES[-merged:]} if merged else {},
    }


def inferred_sizes(
    layout: Layout, official: Mapping[str, Tensor], defaults: Mapping[str, Any], num_heads: int | None = None
) -> dict[str, Any]:
    """Fields of a DETR-family configuration whose defaults are given, as far as the tensors tell them; nested as it is.

    The number of queries is told by learned queries only. num_heads: told by a position relation only, else given here
    or taken from the defaults: heads and points of deformable attention show as their product alone.
    """
    shapes = _Shapes(layout, official)
    told: list[tuple[str, Any]] = [(field, shapes.size(name, axis)) for field, name, axis in _TOLD_BY]
    told += [
        ("transformer.encoder_layers", shapes.count("encoder.layers.{}.attention_norm.weight")),
        ("transformer.decoder_layers", shapes.count("decoder.layers.{}.cross_attention_norm.weight")),
        ("transformer.num_heads", num_heads),
        ("relation", shapes.size("decoder.relation.projection.weight", 0) is not None),
        ("fusion", shapes.size("encoder.stages.0.lateral.0.convolution.weight", 0) is not None),
        ("backbone.strides", shapes.strides()),
        *shapes.settings(),
    ]
    sizes: dict[str, Any] = {}
    for field, value in told:
        _set(sizes, field, value, defaults)
    _set(sizes, "transformer.num_points", _num_points(shapes, sizes, defaults), defaults)
    # Only what differs from the rule: with other classes, the table must follow their number again.
    if defaults.get("label_rows") is None and sizes.get("label_rows") == sizes.get("num_classes", 0) + 1:
        del sizes["label_rows"]
    return sizes


def check_count_classes(layout: Layout, official: Mapping[str, Tensor], settings: Mapping[str, Any]) -> None:
    """Raise ValueError where a file counts objects in more or fewer classes than the settings have budgets for."""
    classes = _Shapes(layout, official).size("encoder.stages.0.counter.classifier.weight", 0)
    thresholds, budgets = settings.get("count_thresholds"), settings.get("budgets")
    if classes is None or not (isinstance(thresholds, (list, tuple)) and isinstance(budgets, (list, tuple))):
        return  # nothing is counted, or the configuration will refuse what was given
    if (len(thresholds) + 1, len(budgets)) != (classes, classes):
        raise ValueError(
            f"the file sorts images into {classes} classes of object counts, but count_thresholds={list(thresholds)} "
            f"make {len(thresholds) + 1} and there are {len(budgets)} budgets; give those of its training, "
            f"{classes - 1} in count_thresholds and {classes} in budgets"
        )


class _Shapes:
    """Shapes of a file's tensors by our names."""

    def __init__(self, layout: Layout, official: Mapping[str, Tensor]) -> None:
        self.layout = layout
        self.official = layout.respelled(official)

    def of(self, name: str) -> tuple[int, ...] | None:
        """Shape of one of our tensors (its first piece), None where the file has none."""
        tensor = self.official.get(self.layout.official_names(name)[0])
        return None if tensor is None else tuple(tensor.shape)

    def size(self, name: str, axis: int) -> int | None:
        """One number of the shape."""
        shape = self.of(name)
        return shape[axis] if shape is not None and len(shape) > axis else None

    def count(self, pattern: str) -> int:
        """How many of the tensors pattern.format(0), pattern.format(1) ... are there."""
        index = 0
        while self.of(pattern.format(index)) is not None:
            index += 1
        return index

    def settings(self) -> list[tuple[str, tuple[float, ...]]]:
        """Fields whose values the file holds in single precision: 0.4 there is 0.4 here."""
        held = [(field, self.official[name]) for field, name in self.layout.settings if name in self.official]
        return [(field, tuple(round(value, 6) for value in tensor.tolist())) for field, tensor in held]

    def strides(self) -> tuple[int, ...] | None:
        """Of the maps that a 1 x 1 convolution of the neck reads; the other levels are made from the last of them."""
        kernels = [
            self.size(f"neck.levels.{index}.0.weight", 2) for index in range(self.count("neck.levels.{}.0.weight"))
        ]
        maps = kernels.count(1)
        return _STRIDES[-maps:] if 1 <= maps <= len(_STRIDES) else None


def _num_points(shapes: _Shapes, sizes: Mapping[str, Any], defaults: Mapping[str, Any]) -> int | None:
    products = shapes.size("encoder.layers.0.attention.attention_weights.weight", 0)
    levels = sizes.get("num_levels")
    heads = sizes.get("transformer", {}).get("num_heads") or defaults["transformer"]["num_heads"]
    if products is None or levels is None:
        return None
    if products % (heads * levels):
        raise ValueError(
            f"expected attention weights of {heads} heads x {levels} levels x points, got {products} rows; "
            "give the number of heads (transformer.num_heads)"
        )
    return int(products // (heads * levels))


def _set(sizes: dict[str, Any], field: str, value: Any, defaults: Mapping[str, Any]) -> None:
    """Put a value that is known at its place, where the configuration has such a field."""
    group, _, name = field.rpartition(".")
    fields = defaults[group] if group else defaults
    if value is None or name not in fields:
        return
    (sizes.setdefault(group, {}) if group else sizes)[name] = value
