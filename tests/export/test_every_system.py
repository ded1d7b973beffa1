"""Every system of the catalogue as ONNX and OpenVINO: at three sizes, in two batch sizes, as sets of detections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from export_cases import make

from smidgen.export import ExportConfig, export
from smidgen.models import list_models

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

CANVAS_HW = (192, 224)
"""At least as many tokens as any nano system has candidates for its queries."""

# Untrained heads say "background" everywhere; a threshold would leave nothing to compare.
NO_THRESHOLD: dict[str, Any] = {"readout": {"score_threshold": 0.0}}
SETTINGS = dict.fromkeys(("retinanet_nano", "fcos_nano", "query_det_nano", "query_det_fcos_nano"), NO_THRESHOLD)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models("*_nano"))
@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_nano(name: str, format: Any, tmp_path: Path) -> None:
    if format == "openvino":
        pytest.importorskip("openvino")
    model = make(name, **SETTINGS.get(name, {}))
    made = export(model, tmp_path / "bundle", format, ExportConfig(canvas_hw=CANVAS_HW))
    assert made.bundle.verified, made.bundle.checks
    assert len({check.canvas_hw for check in made.bundle.checks}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dino_nano", "salience_detr_nano"])
def test_gather_in_place_of_grid_sample(name: str, tmp_path: Path) -> None:
    import onnx

    made = export(make(name), tmp_path / "bundle", "onnx", ExportConfig(canvas_hw=CANVAS_HW, sampling="gather"))
    assert made.bundle.verified, made.bundle.checks
    graph = onnx.load(made.folder / "model.onnx").graph
    assert "GridSample" not in {node.op_type for node in graph.node}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dino_nano", "query_det_nano"])
def test_torch_and_fixed_size(name: str, tmp_path: Path) -> None:
    model = make(name, **SETTINGS.get(name, {}))
    made = export(model, tmp_path / "bundle", "torch", ExportConfig(canvas_hw=CANVAS_HW, fixed_size=True))
    assert made.bundle.verified, made.bundle.checks


@pytest.mark.slow
def test_r50(tmp_path: Path) -> None:
    model = make("dino_r50", backbone={"norm": "batch"})
    made = export(model, tmp_path / "bundle", "onnx", ExportConfig(canvas_hw=(288, 320)))
    assert made.bundle.verified, made.bundle.checks
