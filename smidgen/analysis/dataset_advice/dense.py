"""What dense detectors can learn and keep: anchors that fit, and boxes that suppression merges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smidgen.analysis.dataset_advice.advice import Advice, Choice, first_good, percent
from smidgen.data.statistics.anchor_fit import best_anchor_ious
from smidgen.data.statistics.object_table import ObjectTable
from smidgen.data.statistics.overlaps import overlapping_pairs
from smidgen.data.statistics.suppression import suppression_bound
from smidgen.models.dense_parts import octave_anchors

SUPPRESSION_IOUS = (0.5, 0.6, 0.7)
FOREGROUND_IOU = 0.5
ENOUGH = 0.9
"""With fewer objects covered than this share, anchors are not what is to be changed first."""
DEEPEST_MAP = 32
"""Stride of the last map of a backbone; further levels are made from it."""
STRIDES = (8, 16, 32, 64, 128)
"""Of P3 to P7; P2 has half of the first."""


def suppression_advice(table: ObjectTable) -> Advice:
    """The threshold of non-maximum suppression."""
    pairs, ious = overlapping_pairs(table, SUPPRESSION_IOUS[0])
    same = table.labels[pairs[:, 0]] == table.labels[pairs[:, 1]]
    choices = tuple(
        Choice(
            f"IoU {iou:g}",
            suppression_bound(table, pairs, ious, iou),
            (f"{int((same & (ious > iou)).sum()):,}", f"{int((ious > iou).sum()):,}"),
            (f"model.readout.nms_iou={iou:g}",),
        )
        for iou in SUPPRESSION_IOUS
    )
    chosen = first_good([choice.bound for choice in choices])
    return Advice(
        "suppression",
        "Suppression of overlapping boxes (dense detectors)",
        "Of two objects of one class whose boxes overlap more than the threshold, suppression keeps one, however good "
        "the detector; a higher threshold lets more double detections through. The DETR family does not suppress.",
        ("pairs of one class", "pairs of any class"),
        choices,
        chosen,
        f"Suppression above an {choices[chosen].name} keeps at most {percent(choices[chosen].bound)} of the objects.",
        "retinanet_r50",
    )


def anchor_advice(seen: ObjectTable) -> Advice:
    """Pyramids of anchors. seen: in pixels of the network input."""
    from_p3, p2 = _ious(seen, STRIDES), _ious(seen, (STRIDES[0] // 2,))
    choices = (
        _anchors("anchors from P3", from_p3, STRIDES),
        _anchors("anchors from P2", np.maximum(from_p3, p2), (STRIDES[0] // 2, *STRIDES)),
    )
    chosen = first_good([choice.bound for choice in choices])
    advised = (
        "the others are too small or too long, so first enlarge the input or work in tiles"
        if choices[chosen].bound < ENOUGH
        else "query_det has P2 and computes it only where small objects are suspected"
    )
    return Advice(
        "anchors",
        "Anchors of dense detectors",
        f"RetinaNet's nine anchors per cell; the smallest are 4 cells wide (32 px on P3, 16 px on P2). The bound is "
        f"the share of objects that some anchor covers with an IoU of {FOREGROUND_IOU:g}, from which on it is taught "
        "to answer. Others are taught through their best anchor only, mostly badly: a rule of thumb.",
        (f"IoU < {FOREGROUND_IOU:g}", "IoU < 0.3", "median IoU"),
        choices,
        chosen,
        f"Take {choices[chosen].name}, which cover {percent(choices[chosen].bound)} of the objects; {advised}.",
        "retinanet_r50",
    )


def _ious(seen: ObjectTable, strides: tuple[int, ...]) -> NDArray[np.float64]:
    return best_anchor_ious(seen, octave_anchors(strides), strides)


def _anchors(name: str, ious: NDArray[np.float64], strides: tuple[int, ...]) -> Choice:
    missed, hardly = float((ious < FOREGROUND_IOU).mean()), float((ious < 0.3).mean())
    maps = ", ".join(str(stride) for stride in strides if stride <= DEEPEST_MAP)
    return Choice(
        name,
        1 - missed,
        (percent(missed), percent(hardly), f"{np.median(ious):.2f}"),
        (f"model.backbone.strides=[{maps}]", f"model.num_levels={len(strides)}"),
    )
