"""An int8 export judges by labeled images and leaves only what was asked for."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from square_dataset import square_dataset

import smidgen.export
from smidgen.cli import int8_export
from smidgen.export import ExportConfig, Exported
from smidgen.export.bundle import Bundle, Canvas, write_bundle
from smidgen.structures import Classes, Preprocessing

FLOAT = Bundle(
    system="fcos_nano",
    runtime="openvino",
    preprocessing=Preprocessing(),
    canvas=Canvas(least_hw=(32, 32)),
    classes=Classes(("red", "blue"), (4, 9)),
    score=0.3,
    max_detections=2,
    verified=True,
)


def written(folder: Path) -> Bundle:
    folder.mkdir()
    write_bundle(FLOAT, folder)
    return FLOAT


@pytest.fixture
def without_a_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", ModuleType("nncf"))
    monkeypatch.setattr(smidgen.export, "export", lambda _, out, *__, **___: Exported(out, written(out)))
    monkeypatch.setattr(smidgen.export, "quantize", lambda _, pictures, out: written(out))


def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ap_int8: float, ap_fp32: float = 0.3) -> Exported:
    measured = {"AP_fp32": ap_fp32, "AP_int8": ap_int8}
    monkeypatch.setattr(int8_export, "_measured", lambda *_: measured)
    data = square_dataset(tmp_path / "data")
    shutil.copytree(data / "val", data / "train")
    return int8_export.export_int8(None, tmp_path / "small", ExportConfig(), data, 2, 2, 0.02)


def test_it_takes_its_name_where_it_loses_little(
    without_a_runtime: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = exported(tmp_path, monkeypatch, 0.29)
    assert (made.folder, made.bundle.verified) == (tmp_path / "small", True)
    assert {place.name for place in tmp_path.iterdir()} == {"small", "data"}


def test_it_stays_unverified_where_it_loses_much(
    without_a_runtime: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = exported(tmp_path, monkeypatch, 0.2)
    assert (made.folder, made.bundle.verified) == (tmp_path / "small-unverified", False)


def test_who_finds_nothing_cannot_be_judged(
    without_a_runtime: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not exported(tmp_path, monkeypatch, ap_int8=0.0, ap_fp32=0.0).bundle.verified


def test_what_fails_leaves_no_float_file(
    without_a_runtime: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> Bundle:
        raise MemoryError

    monkeypatch.setattr(smidgen.export, "quantize", failing)
    with pytest.raises(MemoryError):
        exported(tmp_path, monkeypatch, 0.3)
    assert {place.name for place in tmp_path.iterdir()} == {"data"}
