"""A traced detector as an ONNX file of standard operators only."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch

from smidgen.export.missing_package import required
from smidgen.export.traced_detector import INPUTS, OUTPUTS, TracedDetector

OPSET = 18
_EXAMPLE_AXES = {"pixels": {0: "batch", 2: "height", 3: "width"}, "sizes_hw": {0: "batch"}}


def write_onnx(traced: TracedDetector, path: Path) -> None:
    """Write one file with weights inside. Errors: ValueError where a package is missing (extra `onnx`)."""
    for package in ("onnx", "onnxscript"):
        required(package, "onnx")
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: Any = torch.onnx.export(
            traced.program,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            custom_translation_table=_translations(),
            verbose=False,
        )
    _name_axes(made.model, traced.dynamic_size)
    made.save(path, external_data=False)


def _name_axes(model: Any, dynamic_size: bool) -> None:
    """Axes are named by what they are, not by the symbols of the trace."""
    import onnx_ir

    for value in model.graph.inputs:
        for axis, name in _EXAMPLE_AXES[value.name].items():
            if axis == 0 or dynamic_size:
                dims = list(value.shape.dims)
                dims[axis] = onnx_ir.SymbolicDim(name)
                value.shape = onnx_ir.Shape(dims)


def _translations() -> dict[Any, Any]:
    """Operators that are ours or that torch does not translate."""
    from smidgen.export.onnx_operators import stable_sort_in_onnx, suppress_in_onnx

    return {
        torch.ops.smidgen.suppress.default: suppress_in_onnx,
        torch.ops.aten.sort.stable: stable_sort_in_onnx,
    }
