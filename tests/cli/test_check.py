"""`smidgen check` as programs and people see it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smidgen.__main__ import main


def write(root: Path, names: tuple[str, ...] = ("a.png", "b.png"), boxes: tuple[Any, ...] = ((2, 3, 8, 8),)) -> Path:
    """One split of noise in COCO layout, every image with the same boxes."""
    (root / "train" / "images").mkdir(parents=True)
    images, annotations = [], []
    for number, name in enumerate(names, start=1):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "train" / "images" / name)
        images.append({"id": number, "file_name": name, "width": 32, "height": 24})
        for box in boxes:
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "bbox": box}
            annotations.append(entry)
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "car"}]}
    (root / "train" / "annotations.json").write_text(json.dumps(content))
    return root


def check(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    code = main(["check", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_clean_set_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, answer = check(capsys, write(tmp_path))
    assert code == 0 and answer["errors"] == [] and answer["warnings"] == [] and answer["counts"] == {}
    assert answer["splits"] == {"train": {"images": 2, "objects": 2, "classes": 1}}
    assert answer["layout"].startswith("coco layout")


def test_warnings_alone_pass_and_errors_do_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, answer = check(capsys, write(tmp_path / "tiny", boxes=((2, 3, 1, 1),)))
    assert code == 0 and answer["counts"] == {"tiny_box": 2} and len(answer["warnings"]) == 2
    code, answer = check(capsys, write(tmp_path / "empty", boxes=((2, 3, 0, 8),)))
    assert code == 3 and answer["counts"]["degenerate_box"] == 2
    assert set(answer["errors"][0]) == {"kind", "file", "detail"}
    assert "delete it or draw it again" in answer["errors"][0]["detail"]


def test_without_images_no_pixel_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = write(tmp_path) / "train" / "images" / "a.png"
    broken.write_bytes(broken.read_bytes()[:200])
    assert check(capsys, tmp_path, "--no-images")[0] == 0
    code, answer = check(capsys, tmp_path, "--workers", 2)
    assert code == 3 and answer["errors"][0]["kind"] == "unreadable_image"
    code, answer = check(capsys, tmp_path, "--no-images", "--fix", tmp_path / "out")
    assert code == 2 and "--no-images" in answer["error"]


def test_fix_writes_a_copy_without_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "data", boxes=((2, 3, 8, 8), (2, 3, 8, 8), (2, 3, 0, 8)))
    (data / "train" / "images" / "a.png").write_bytes(b"")
    code, answer = check(capsys, data, "--fix", tmp_path / "mended")
    assert code == 3
    assert answer["fixed"]["images"] == {"train": 1}
    assert answer["fixed"]["changes"] == {"degenerate_box": 2, "unreadable_image": 1, "duplicate_box": 1}
    assert check(capsys, tmp_path / "mended")[0] == 0
    code, answer = check(capsys, data, "--fix", tmp_path / "mended")
    assert code == 2 and "new or empty folder" in answer["error"]


def test_where_nothing_can_be_used_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "data")
    for image in (data / "train" / "images").iterdir():
        image.write_bytes(b"")
    code, answer = check(capsys, data, "--fix", tmp_path / "mended")
    assert code == 2 and "no usable image" in answer["error"] and "zero bytes" in answer["error"]
    (data / "train" / "annotations.json").write_text("{")
    code, answer = check(capsys, data, "--fix", tmp_path / "mended")
    assert code == 3 and answer["counts"] == {"unusable_split": 1} and "fixed" not in answer
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


def test_names_that_are_not_utf_8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "data", names=(os.fsdecode(b"caf\xe9.png"), "日本 [1].png"))
    code, answer = check(capsys, data, "--fix", tmp_path / "mended")
    assert code == 0 and answer["fixed"]["images"] == {"train": 2}
    assert check(capsys, tmp_path / "mended")[0] == 0


def test_people_see_each_kind_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = tuple(f"[{number}].png" for number in range(5))
    assert main(["check", str(write(tmp_path, names, boxes=((2, 3, 0, 8),)))]) == 3
    out = capsys.readouterr().out
    assert "error: 5 degenerate_box: it has no area" in out and "[0].png" in out
    assert "and 2 more; --json lists all" in out
