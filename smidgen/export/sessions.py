"""An exported file, opened by its runtime: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from smidgen.export.bundle import Runtime
from smidgen.export.missing_package import required
from smidgen.export.traced_detector import INPUTS

Session: TypeAlias = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, ...]]
"""(pixels "B 3 H W" uint8, sizes_hw "B 2" int64) -> the arrays of `FixedDetections`."""

OPENVINO_SETTINGS = {"INFERENCE_PRECISION_HINT": "f32"}
"""Processors with AMX would otherwise compute in bfloat16 unasked, which changes which tokens become queries."""


def open_session(file: Path, runtime: Runtime) -> Session:
    """Errors: ValueError where the runtime is not installed or does not take the file."""
    try:
        return _OPENERS[runtime](file)
    except ValueError:
        raise
    except Exception as error:  # every runtime has its own kinds
        raise ValueError(f"{runtime} cannot open {file}: {str(error).splitlines()[0]}; export again") from error


def _onnxruntime(file: Path) -> Session:
    onnxruntime: Any = required("onnxruntime", "onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def run(pixels: np.ndarray, sizes_hw: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(session.run(None, dict(zip(INPUTS, (pixels, sizes_hw), strict=True))))

    return run


def _openvino(file: Path) -> Session:
    openvino: Any = required("openvino", "openvino")
    threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
    model = openvino.compile_model(str(file), "CPU", {**OPENVINO_SETTINGS, **threads})

    def run(pixels: np.ndarray, sizes_hw: np.ndarray) -> tuple[np.ndarray, ...]:
        answer = model([pixels, sizes_hw])
        return tuple(np.array(answer[index]) for index in range(len(model.outputs)))

    return run


def _torch(file: Path) -> Session:
    import smidgen.boxes.suppression  # noqa: F401  # registers the operator that dense detectors' files name

    # Without its guards: some only say that the example had more than one image, and are no need of the graph.
    module: Any = torch.export.load(file).module(check_guards=False)

    def run(pixels: np.ndarray, sizes_hw: np.ndarray) -> tuple[np.ndarray, ...]:
        with torch.no_grad():
            return tuple(each.numpy() for each in module(torch.from_numpy(pixels), torch.from_numpy(sizes_hw)))

    return run


_OPENERS: dict[Runtime, Callable[[Path], Session]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "torch": _torch,
}
