"""What --optimize and --compile make of a run, and that figures say so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from square_dataset import square_dataset

from smidgen.__main__ import main
from smidgen.checkpoints import native, save
from smidgen.cli.detector import load_detector
from smidgen.export.bundle import BUNDLE_FILE
from smidgen.inference import OptimizedDetector, optimization
from smidgen.inference.optimization import Optimization
from smidgen.models import create_model
from smidgen.structures import Classes

TINY = {
    "backbone": {"options": {"channels": [16, 16, 16, 16], "stem_width": 32}},
    "preprocessing": {"short_side": 64, "long_side": 96},
    "readout": {"score_threshold": 0.0, "num_detections": 20},  # untrained heads are sure of nothing
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return save(create_model("fcos_nano", classes=Classes(("red", "blue"), (4, 9)), **TINY), tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("fp32", False), Optimization("fp32", None, None)),
        (("bf16", True), Optimization("bf16", "inductor", 64)),
        ((None, True), Optimization("fp32", "inductor", 64)),
    ],
)
def test_options_become_an_optimized_detector(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str | None, bool], expected: Optimization
) -> None:
    monkeypatch.setattr(optimization, "_compile", lambda detector, backend: None)  # the compiler is slow to import
    model = load_detector(checkpoint, "cpu", *options)
    assert isinstance(model, OptimizedDetector) and model.optimization == expected


def test_without_options_it_is_as_trained(checkpoint: Path) -> None:
    assert not isinstance(load_detector(checkpoint, "cpu"), OptimizedDetector)
    with pytest.raises(ValueError, match="expected fp32 or bf16, got 'int8'"):
        load_detector(checkpoint, "cpu", "int8")


@pytest.mark.parametrize("options", [("fp32", False), (None, True)])
def test_an_exported_file_is_not_optimized(tmp_path: Path, options: tuple[str | None, bool]) -> None:
    (tmp_path / BUNDLE_FILE).touch()
    with pytest.raises(ValueError, match="leave --optimize and --compile out"):
        load_detector(tmp_path, "cpu", *options)


def test_figures_say_how_the_model_was_optimized(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = square_dataset(tmp_path / "data")
    command = ["evaluate", str(checkpoint), "--data", str(data), "--out"]
    said = {}
    for name, options in {"as_trained": [], "fp32": ["--optimize", "fp32"]}.items():
        assert main([*command, str(tmp_path / name), *options]) == 0
        said[name] = capsys.readouterr().out
    written = {name: json.loads((tmp_path / name / "evaluation.json").read_text()) for name in said}
    assert written["as_trained"]["settings"]["optimized"] is None
    assert written["fp32"]["settings"]["optimized"] == {"dtype": "fp32", "compile": None, "bucket_px": None}
    assert "model optimized: fp32" in said["fp32"] and "model optimized" not in said["as_trained"]
    assert written["fp32"]["metrics"] == pytest.approx(written["as_trained"]["metrics"], abs=1e-3)


def test_figures_of_a_model_that_is_no_folder_need_one(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(native, "fetch", lambda repository: checkpoint)
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "somebody/squares", "--data", "data"]) == 2
    assert "give --out" in capsys.readouterr().err
    assert not (tmp_path / "somebody").exists()  # it would stand for the repository from then on


@pytest.mark.slow
def test_compiled_predictions_are_the_same(checkpoint: Path, tmp_path: Path) -> None:
    images = str(square_dataset(tmp_path / "data") / "val" / "images")
    found = {}
    for name, options in {"as_trained": ["--optimize", "fp32"], "compiled": ["--compile"]}.items():
        out = tmp_path / name
        assert main(["predict", str(checkpoint), images, "--out", str(out), "--score", "0", *options]) == 0
        found[name] = json.loads((out / "predictions.json").read_text())["images"]
    for one, other in zip(found["as_trained"], found["compiled"], strict=True):
        assert one["file"] == other["file"] and len(one["detections"]) > 0
        scores = ([each["score"] for each in image["detections"]] for image in (one, other))
        assert next(scores) == pytest.approx(next(scores), abs=1e-4)
