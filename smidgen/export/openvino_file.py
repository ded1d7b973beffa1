"""A traced detector as OpenVINO's files: model.xml and model.bin beside it, made by way of ONNX.

OpenVINO also reads torch.export graphs, but has no rule for `sym_min`, which graphs of unknown size have (2026.4).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from smidgen.export.missing_package import required
from smidgen.export.onnx_file import write_onnx
from smidgen.export.traced_detector import TracedDetector


def write_openvino(traced: TracedDetector, path: Path) -> None:
    """Write model.xml with float32 weights. Errors: ValueError where a package is missing."""
    openvino: Any = required("openvino", "openvino")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        write_onnx(traced, file)
        # By default weights would be rounded to half precision.
        openvino.save_model(openvino.convert_model(str(file)), str(path), compress_to_fp16=False)
