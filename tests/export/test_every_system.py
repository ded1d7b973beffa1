"""Every system of the catalogue as ONNX and OpenVINO: at three sizes, in two batch sizes, as sets of detections.

With as few layers, queries and channels as there can be: what is translated wrongly is wrong there, too.
"""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from export_cases import make, smallest

from smidgen.export import ExportConfig, export, exporting, openvino_file
from smidgen.models import list_models

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

CONFIG = ExportConfig(canvas_hw=(128, 160))
SPARSE: dict[str, Any] = {"sparse_finest": {"share": 0.2}}
CASES = [pytest.param(name, {}, id=name) for name in list_models("*_nano")]
CASES += [pytest.param(name, SPARSE, id=f"{name}-sparse") for name in ("dino_5scale_nano", "salience_detr_5scale_nano")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "besides"), CASES)
def test_onnx_and_openvino(name: str, besides: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _check_both(make(name, **smallest(name), **besides), CONFIG, tmp_path, monkeypatch)


@pytest.mark.slow
def test_r50(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("dino_r50", backbone={"norm": "batch"})
    _check_both(model, ExportConfig(canvas_hw=(256, 288)), tmp_path, monkeypatch)


def _check_both(model: Any, config: ExportConfig, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both formats of one trace, which is what takes long."""
    pytest.importorskip("openvino")
    monkeypatch.setattr(exporting, "_traced", cache(exporting._traced))
    made = export(model, folder / "onnx", "onnx", config)
    _check_verified(made)
    file = made.folder / "model.onnx"
    monkeypatch.setattr(openvino_file, "write_onnx", lambda traced, path: shutil.copyfile(file, path))
    _check_verified(export(model, folder / "openvino", "openvino", config))


def _check_verified(made: exporting.Exported) -> None:
    assert made.bundle.verified, made.bundle.checks
    assert len({check.canvas_hw for check in made.bundle.checks}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dino_nano", "salience_detr_nano"])
def test_gather_in_place_of_grid_sample(name: str, tmp_path: Path) -> None:
    import onnx

    config = ExportConfig(canvas_hw=(128, 160), sampling="gather")
    made = export(make(name, **smallest(name)), tmp_path / "bundle", "onnx", config)
    assert made.bundle.verified, made.bundle.checks
    graph = onnx.load(made.folder / "model.onnx").graph
    assert "GridSample" not in {node.op_type for node in graph.node}


@pytest.mark.slow
@pytest.mark.parametrize("fixed_size", [False, True], ids=["any size", "fixed size"])
@pytest.mark.parametrize("name", ["dino_nano", "query_det_nano", "salience_detr_nano"])
def test_torch_export(name: str, fixed_size: bool, tmp_path: Path) -> None:
    config = ExportConfig(canvas_hw=(128, 160), fixed_size=fixed_size)
    made = export(make(name, **smallest(name)), tmp_path / "bundle", "torch", config)
    assert made.bundle.verified, made.bundle.checks
