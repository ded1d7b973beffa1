"""What an export refuses before it works for minutes: places that hold something else, packages that are not there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from test_bundle import BUNDLE

from smidgen.export import ExportConfig, export
from smidgen.export.bundle import write_bundle
from smidgen.export.exporting import require_replaceable


@pytest.mark.parametrize("place", ["made", "made-unverified"])
def test_what_is_no_bundle_is_not_replaced(place: str, tmp_path: Path) -> None:
    (tmp_path / place / "best").mkdir(parents=True)
    with pytest.raises(ValueError, match=f"got .*{place}, which is something else .* change --out"):
        export(None, tmp_path / "made", "torch")
    assert (tmp_path / place / "best").is_dir()


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "made").write_text("mine")
    with pytest.raises(ValueError, match="change --out"):
        require_replaceable(tmp_path / "made")


def test_bundles_and_empty_folders_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    require_replaceable(tmp_path / "made")
    write_bundle(BUNDLE, tmp_path / "made")
    require_replaceable(tmp_path / "made")


def test_the_extra_is_named_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"onnxruntime .*smidgen\[onnx\]"):
        export(None, tmp_path / "made")
    with pytest.raises(ValueError, match="one of onnx, openvino, torch, got 'tflite'"):
        export(None, tmp_path / "made", "tflite")  # type: ignore[arg-type]


def test_thresholds_are_shares() -> None:
    with pytest.raises(ValueError, match="--score"):
        ExportConfig(score=30.0)
