from __future__ import annotations

from pathlib import Path

import pytest
from detection_cases import random_case

from smidgen.evaluation import read_predictions, write_predictions


def test_round_trip(tmp_path: Path):
    _, predictions = random_case(5)
    write_predictions(tmp_path / "val" / "predictions.json", predictions)
    assert read_predictions(tmp_path / "val" / "predictions.json") == predictions
    write_predictions(tmp_path / "empty.json", [])
    assert read_predictions(tmp_path / "empty.json") == []


def test_a_failure_keeps_the_earlier_file(tmp_path: Path):
    file = tmp_path / "predictions.json"
    write_predictions(file, [{"image_id": 1}])
    with pytest.raises(TypeError):
        write_predictions(file, [{"image_id": object()}])
    assert read_predictions(file) == [{"image_id": 1}]
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("text", ["{}", "[1]", "[", "\udcff", ""])
def test_other_content_is_refused(tmp_path: Path, text: str):
    file = tmp_path / "predictions.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match="JSON"):
        read_predictions(file)
