"""`smidgen stats` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smidgen.__main__ import main


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """30 objects of 12 px in one of two images, sizes stated, image files empty: none is opened."""
    for split in ("train", "val"):
        images = tmp_path / "data" / split / "images"
        images.mkdir(parents=True)
        listed = [{"id": n, "file_name": f"{n}.png", "width": 640, "height": 480} for n in (1, 2)]
        for image in listed:
            (images / str(image["file_name"])).touch()
        boxes = [
            {"id": n + 1, "image_id": 1, "category_id": 5, "bbox": [20 * n, 30, 12, 12]}
            for n in range(30 if split == "train" else 0)
        ]
        content = {"images": listed, "annotations": boxes, "categories": [{"id": 5, "name": "car"}]}
        (images.parent / "annotations.json").write_text(json.dumps(content))
    return tmp_path / "data"


def test_one_object_on_stdout_and_a_page(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "pages" / "stats.html"
    assert main(["stats", str(data), "--html", str(page), "--size", "480x640", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["split"] == "train" and values["input"] == {"short_side": 480, "long_side": 640}
    assert values["statistics"]["objects"] == 30 and values["statistics"]["images"]["without_objects"] == 1
    assert values["statistics"]["at_input"]["quantiles"]["median"] == pytest.approx(12)
    assert {piece["topic"] for piece in values["advice"]} >= {"input_size", "budget", "quotas"}
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [file.name for file in page.parent.iterdir()] == ["stats.html"]


def test_tables_for_people(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", str(data), "--size", "960"]) == 0
    out, err = capsys.readouterr()
    assert "> 100 queries" in out and "--set model.num_queries=100" in out
    assert "give --split (val)" in err


def test_a_split_without_objects(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", str(data), "--split", "val"]) == 0
    assert "nothing to advise" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--size", "large"], "SHORTxLONG"),
        (["--size", "800x400"], "SHORTxLONG"),
        (["--split", "nothing"], "no split"),
        (["--html", "."], "expected a file"),
    ],
)
def test_what_cannot_be_done(data: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", str(data), *arguments, "--json"]) == 2
    assert words in json.loads(capsys.readouterr().out)["error"]
