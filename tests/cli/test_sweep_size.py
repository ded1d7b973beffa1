from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from square_dataset import square_dataset

from smidgen.__main__ import main
from smidgen.checkpoints import save
from smidgen.models import create_model
from smidgen.structures import Classes

TINY = {
    "backbone": {"options": {"channels": [16, 16, 16, 16], "stem_width": 32}},
    "preprocessing": {"short_side": 64, "long_side": 96},
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return square_dataset(tmp_path / "data")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return save(create_model("fcos_nano", classes=Classes(("red", "blue"), (4, 9)), **TINY), tmp_path / "dense")


def test_a_dense_model_gets_table_words_and_picture(
    checkpoint: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    next((data / "val" / "images").glob("2.*")).write_bytes(b"broken")
    options = ["--scales", "1,0.5", "--score", "0", "--iou", "0.1", "--samples", "10", "--json"]
    assert main(["sweep-size", str(checkpoint), "--data", str(data), *options]) == 0
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert answer["images"] == 2 and len(answer["skipped"]) == 1 and "left out:" in err and "2.png" in err
    assert answer["settings"]["scales"] == [1.0, 0.5] and len(answer["sides"]) == 2 and answer["answer"]
    with (checkpoint / "size_sweep" / "size_sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["scale"] for row in rows} == {"all", "1.0", "0.5"}
    assert sum(int(row["objects"]) for row in rows if row["scale"] == "all") == answer["objects"]
    assert (checkpoint / "size_sweep" / "size_sweep.png").stat().st_size > 10_000


def test_fewer_images_and_words_for_people(
    checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--scales", "1", "--images", "1", "--samples", "5", "--out", str(tmp_path / "out")]
    assert main(["sweep-size", str(checkpoint), "--data", str(data), *options]) == 0
    out = capsys.readouterr().out
    assert "1 images of val" in out and "never reaches" in out


@pytest.mark.parametrize(
    ("option", "words"), [("--scales=1,x", "numbers with commas"), ("--scales=2", "(0, 1]"), ("--iou=0", "IoU")]
)
def test_mistakes_are_explained(
    option: str, words: str, checkpoint: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep-size", str(checkpoint), "--data", str(data), option, "--json"]) == 2
    assert words in json.loads(capsys.readouterr().out)["error"]
