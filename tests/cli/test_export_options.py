"""`smidgen export` refuses options that would do nothing, and says why a bundle is not verified."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from smidgen.__main__ import main
from smidgen.cli.export import _verdict
from smidgen.export.bundle import Bundle, Canvas, Check
from smidgen.structures import Classes, Preprocessing

FOUND_NOTHING = Check(canvas_hw=(32, 32), images=1, pairs=0, missing=0, surplus=0, worst_box=0.0, worst_score=0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--overlap", "0.2"], "expected --tile with --overlap"),
        (["--tile", "0"], "--tile"),
        (["--data", "scenes"], "expected --format openvino-int8 with --data, got onnx"),
        (["--format", "openvino-int8"], "expected labeled images"),
        (["--format", "openvino-int8", "--data", "scenes", "--pictures", "a.png"], "expected no --pictures"),
    ],
)
def test_options_without_their_partners(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(tmp_path), "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err


def test_nothing_to_compare_is_no_difference() -> None:
    bundle = Bundle(
        system="fcos_nano",
        runtime="onnxruntime",
        preprocessing=Preprocessing(),
        canvas=Canvas(least_hw=(32, 32)),
        classes=Classes(("boat",), (3,)),
        score=0.3,
        max_detections=2,
        checks=(FOUND_NOTHING,),
    )
    assert "--pictures" in _verdict(bundle)
    assert "NOT the model" in _verdict(replace(bundle, checks=(replace(FOUND_NOTHING, missing=1),)))
    assert "--most-ap-lost" in _verdict(replace(bundle, precision="int8"))
    assert _verdict(replace(bundle, verified=True)) == "verified"
