"""A DETR as a bundle: its file, its runner without torch, and the verbs that take it in place of a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from export_cases import make, run_without_torch, smallest
from PIL import Image

from smidgen.__main__ import main
from smidgen.export import ExportConfig, Exported, Tolerance, export, load_bundle
from smidgen.export.comparison import difference
from smidgen.inference import predict
from smidgen.structures import Classes, Detections

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def model() -> object:
    made = make("dino_nano", **smallest("dino_nano"))
    made.classes = Classes(("boat", "Säge", "car"), (7, 1, 30))
    return made


@pytest.fixture(scope="module")
def exported(model: object, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(model, tmp_path_factory.mktemp("bundle") / "dino", config=ExportConfig(canvas_hw=(96, 128)))


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth, so that ways of resizing that differ by a rounding answer alike."""
    rows, columns = np.mgrid[:180, :240] / 240
    waves = [np.sin(9 * rows + phase) * np.cos(7 * columns - phase) for phase in (0, 1, 2)]
    path = tmp_path_factory.mktemp("pictures") / "waves.png"
    Image.fromarray((127 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)).save(path)
    return path


def test_detections_are_the_models_at_three_sizes_and_two_batch_sizes(exported: Exported) -> None:
    checks = exported.bundle.checks
    assert exported.bundle.verified
    assert len({check.canvas_hw for check in checks}) == 3
    assert {check.images for check in checks} == {1, 2}
    assert all(check.pairs == check.images * 36 for check in checks)
    assert max(check.worst_box for check in checks) < 1e-4


def test_file_knows_only_standard_operators_and_names_its_axes(exported: Exported) -> None:
    import onnx

    graph = onnx.load(exported.folder / "model.onnx")
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}
    assert "GridSample" in {node.op_type for node in graph.graph.node}
    dims = [dim.dim_param or dim.dim_value for dim in graph.graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["batch", 3, "height", "width"]


def test_bundle_is_predicted_with_like_a_run(exported: Exported, model: torch.nn.Module, picture: Path) -> None:
    (expected,) = predict(model, [picture], score=0.0)
    (found,) = predict(load_bundle(exported.folder), [picture], score=0.0)
    assert difference(expected, found, Tolerance(share=0.0)).within(Tolerance(share=0.0))
    assert found.class_names == ("boat", "Säge", "car")


def test_runner_needs_no_torch(exported: Exported, picture: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 not a picture")
    out = tmp_path / "predictions.json"
    run_without_torch(exported.folder / "run.py", picture, broken, "--score", 0, "--out", out)
    found, failed = json.loads(out.read_text(encoding="utf-8"))["images"]
    assert "error" in failed
    (expected,) = predict(load_bundle(exported.folder), [picture], score=0.0)
    answer = _as_detections(found["detections"], expected)
    assert {one["category_id"] for one in found["detections"]} <= {7, 1, 30}
    assert difference(expected, answer, Tolerance(share=0.05)).within(Tolerance(share=0.05))


def test_predict_verb_takes_the_bundle(
    exported: Exported, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["predict", str(exported.folder), str(picture), "--out", str(out), "--score", "0", "--json"]) == 0
    (image,) = json.loads(capsys.readouterr().out)["images"]
    assert len(image["detections"]) == 36


def _as_detections(records: list[dict[str, object]], like: Detections) -> Detections:
    boxes = torch.tensor([record["bbox"] for record in records])
    boxes[:, 2:] += boxes[:, :2]
    labels = torch.tensor([like.category_ids.index(record["category_id"]) for record in records])
    return Detections(boxes, torch.tensor([record["score"] for record in records]), labels, like.image_hw)
