from __future__ import annotations

import os
from pathlib import Path

import pytest

from smidgen.inference import common_root, image_files


def touch(root: Path, *names: str) -> None:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")


def test_a_folder_gives_the_images_below_it_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a.PNG", "deep/er/c.tif", "notes.txt", ".hidden.png")
    found = [str(file.relative_to(tmp_path)) for file in image_files(tmp_path)]
    assert found == ["a.PNG", "b.jpg", "deep/er/c.tif"]


def test_patterns_and_files_keep_the_order_given(tmp_path: Path) -> None:
    touch(tmp_path, "x/1.jpg", "x/2.png", "y/photo")
    found = list(image_files([tmp_path / "y" / "photo", str(tmp_path / "*" / "*.jpg")]))
    assert found == [tmp_path / "y" / "photo", tmp_path / "x" / "1.jpg"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    touch(tmp_path, "frame[1].png")
    assert list(image_files(tmp_path / "frame[1].png")) == [tmp_path / "frame[1].png"]


def test_a_missing_source_is_told_before_anything_is_read(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    with pytest.raises(FileNotFoundError, match=r"nothing\.jpg does not exist"):
        image_files([tmp_path / "a.jpg", tmp_path / "nothing.jpg"])


def test_finding_is_lazy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, *(f"{folder}/{index}.jpg" for folder in "abc" for index in range(3)))
    walked = []
    plain = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: walked.append(path) or plain(path))
    assert next(iter(image_files(tmp_path))) == tmp_path / "a" / "0.jpg"
    assert walked == [tmp_path, tmp_path / "a"]


def test_names_that_are_not_utf8_are_found(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    touch(tmp_path, name)
    assert [file.name for file in image_files(tmp_path)] == [name]


def test_common_root_is_the_deepest_shared_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    assert common_root([tmp_path / "a"]) == tmp_path / "a"
    assert common_root([tmp_path / "a" / "1.jpg"]) == tmp_path / "a"
    assert common_root([tmp_path / "a", tmp_path / "b" / "*.jpg"]) == tmp_path
