"""Our own exports in ONNX Runtime and OpenVINO against the same detector in torch, at equal precision.

    python benchmarks/runtimes.py [--size 400x667] [--model deformable_detr_one_stage_r50] [--rounds 3] [--quick]

Every variant goes from the uint8 image to the best boxes. Files are in float32, standard operators alone, for one size
of image; OpenVINO computes them in bfloat16, too, where it is asked. One thread each; ONNX Runtime and OpenVINO let
theirs wait without spinning, or the waiting would count as CPU time. --quick: a nano model at 256 x 320 px.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Measurement, Recording, parser, recording
from torch import nn

from smidgen import create_model, optimize
from smidgen.export.onnx_file import write_onnx
from smidgen.export.traced_detector import INPUTS, trace
from smidgen.structures import ImageBatch

Session = Callable[[], Any]


@torch.no_grad()
def main() -> None:
    models = ("deformable_detr_one_stage_r50", "dino_nano")
    options = parser(__doc__, rounds=3, size=("400x667", "256x320"), model=models).parse_args()
    with recording(__file__, options) as record:
        model = create_model(options.model, num_classes=91).eval()
        pixels = torch.randint(0, 256, (1, 3, *record.size_hw), dtype=torch.uint8)
        calls = our_calls(model, pixels[0]) | runtimes_of(record, model, pixels)
        measured = record.measure(f"{options.model}, {options.size}", calls, against="eager", memory=True)
        compare(record, measured)


def our_calls(model: nn.Module, image: torch.Tensor) -> dict[str, Session]:
    images, size_hw = ImageBatch.collate([image]), [tuple(image.shape[1:])]
    models: dict[str, Any] = {
        "eager": model,
        "optimized fp32": optimize(model),
        "optimized bf16": optimize(model, "bf16"),
    }
    return {name: partial(each.detect, images, size_hw) for name, each in models.items()}


def runtimes_of(record: Recording, model: nn.Module, pixels: torch.Tensor) -> dict[str, Session]:
    """Sessions of the runtimes that are installed, on one exported file."""
    arrays = {"pixels": pixels.numpy(), "sizes_hw": np.array([record.size_hw], dtype=np.int64)}
    if record.peer("onnx") is None or record.peer("onnxscript") is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        write_onnx(trace(model, record.size_hw, dynamic_size=False), file)
        return onnxruntime_calls(record, file, arrays) | openvino_calls(record, file, arrays)


def onnxruntime_calls(record: Recording, file: Path, arrays: dict[str, Any]) -> dict[str, Session]:
    library: Any = record.peer("onnxruntime")
    if library is None:
        return {}
    options = library.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = library.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return {"ONNX Runtime fp32": partial(session.run, None, arrays)}


def openvino_calls(record: Recording, file: Path, arrays: dict[str, Any]) -> dict[str, Session]:
    library: Any = record.peer("openvino")
    if library is None:
        return {}
    inputs = [arrays[name] for name in INPUTS]
    calls = {}
    for name, hint in {"OpenVINO fp32": "f32", "OpenVINO bf16": "bf16"}.items():
        settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": hint}
        calls[name] = partial(library.compile_model(str(file), "CPU", settings), inputs)
    return calls


def compare(record: Recording, measured: Measurement) -> None:
    """Ours against each runtime of the same precision."""
    for variant in measured.variants:
        precision = variant.name.rpartition(" ")[2]
        if variant.name.startswith(("ONNX", "OpenVINO")):
            ratio = str(measured.ratio(f"optimized {precision}", variant.name))
            record.count(f"ours against {variant.name} at equal precision", times_as_fast=ratio)


if __name__ == "__main__":
    main()
