"""Operators that torch's exporter has no words for, in operators of ONNX.

`smidgen.boxes.suppression.suppress`: NonMaxSuppression takes boxes of a batch and the scores of every class. It skips
scores up to its threshold, so a row takes part in its own class alone where its scores for the others are negative. It
answers a list as long as what survives; scattering it into a map makes the shape fixed again.

A stable sort: TopK of everything, which puts the lower index first where values are equal.
"""

from __future__ import annotations

from typing import Any

from onnxscript import opset18

op: Any = opset18
_MOST = 1 << 30
_INT64 = 7  # of onnx.TensorProto


def suppress_in_onnx(boxes_xyxy: Any, scores: Any, labels: Any, num_classes: int, iou_threshold: float) -> Any:
    """True at rows that survive, as bool "B M"."""
    one, classes = op.Constant(value_ints=[1]), op.Constant(value_ints=list(range(num_classes)))
    own = op.Equal(op.Unsqueeze(op.Cast(labels, to=_INT64), one), op.Unsqueeze(classes, op.Constant(value_ints=[0, 2])))
    takes_part = op.Unsqueeze(op.GreaterOrEqual(scores, op.Constant(value_float=0.0)), one)
    of_classes = op.Where(op.And(own, takes_part), op.Unsqueeze(scores, one), op.Constant(value_float=-1.0))
    selected = op.NonMaxSuppression(
        boxes_xyxy,
        of_classes,
        op.Constant(value_ints=[_MOST]),
        op.Constant(value_floats=[iou_threshold]),
        op.Constant(value_floats=[-0.5]),
    )
    image_and_row = op.Gather(selected, op.Constant(value_ints=[0, 2]), axis=1)
    count = op.Shape(selected, start=0, end=1)
    kept = op.ScatterND(
        op.Expand(op.Constant(value_float=0.0), op.Shape(scores)),
        image_and_row,
        op.Expand(op.Constant(value_float=1.0), count),
    )
    return op.Greater(kept, op.Constant(value_float=0.5))


def stable_sort_in_onnx(values: Any, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """Values in order, and where they stood."""
    size = op.Shape(values, start=-1) if dim == -1 else op.Shape(values, start=dim, end=dim + 1)
    return op.TopK(values, size, axis=dim, largest=int(descending), sorted=1)
