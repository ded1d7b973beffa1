"""SAHI's functions see what our own prediction sees."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import smidgen
from smidgen.inference.sahi_adapter import detect_arrays, sahi_detection_model


def boxes_of(result: Any) -> list[list[float]]:
    return sorted(one.bbox.to_xyxy() for one in result.object_prediction_list)


def test_whole_image_as_predict_sees_it(bright_spot: Any, spot_image: Path) -> None:
    sahi_predict = pytest.importorskip("sahi.predict")
    adapter = sahi_detection_model(bright_spot, score=0.1)
    found = sahi_predict.get_prediction(str(spot_image), adapter)
    (expected,) = smidgen.predict(bright_spot, spot_image, score=0.1)
    assert boxes_of(found) == sorted(expected.boxes_xyxy.tolist())
    assert {(one.category.id, one.category.name) for one in found.object_prediction_list} == {(3, "frame"), (7, "spot")}
    assert (
        len(sahi_predict.get_prediction(str(spot_image), adapter, confidence_threshold=0.5).object_prediction_list) == 1
    )


@pytest.mark.parametrize("batch_size", [1, 4])
def test_slices_are_put_back_in_place(bright_spot: Any, batch_size: int, tmp_path: Path) -> None:
    sahi_predict = pytest.importorskip("sahi.predict")
    pixels = np.zeros((128, 128, 3), dtype=np.uint8)
    pixels[72:80, 80:96] = 255
    Image.fromarray(pixels).save(tmp_path / "large.png")
    found = sahi_predict.get_sliced_prediction(
        str(tmp_path / "large.png"),
        sahi_detection_model(bright_spot, score=0.5),
        slice_height=64,
        slice_width=64,
        overlap_height_ratio=0.0,
        overlap_width_ratio=0.0,
        perform_standard_pred=False,
        batch_size=batch_size,
        verbose=0,
    )
    assert boxes_of(found) == [[80.0, 72.0, 96.0, 80.0]]
    if batch_size == 4:
        assert bright_spot.batch_sizes == [4]


def test_pixels_that_cannot_be_written_to_are_no_worry(bright_spot: Any, recwarn: pytest.WarningsRecorder) -> None:
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels.flags.writeable = False
    detect_arrays(bright_spot, [pixels])
    assert not recwarn.list


def test_without_sahi_the_extra_is_named(bright_spot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sahi.models.base", None)
    with pytest.raises(ModuleNotFoundError, match=r"smidgen\[sahi\]"):
        sahi_detection_model(bright_spot)
