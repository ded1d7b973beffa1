"""A failure at any point leaves the earlier version, alone and whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smidgen.checkpoints.atomic_write import recover_folder, write_atomically, write_folder_atomically


def test_the_file_is_replaced_and_may_be_read_by_others(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file.txt"
    plain = tmp_path / "plain"
    plain.touch()

    def write_for_the_owner(partial: Path) -> None:
        partial.unlink()
        with os.fdopen(os.open(partial, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write("content")

    write_atomically(path, lambda partial: partial.write_text("earlier"))
    write_atomically(path, write_for_the_owner)
    assert path.read_text() == "content"
    assert path.stat().st_mode == plain.stat().st_mode
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("bad")])
def test_a_failure_keeps_the_earlier_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file.txt"
    path.write_text("earlier")

    def fail(partial: Path) -> None:
        partial.write_text("half")
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, fail)
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_keeps_the_earlier_folder(tmp_path: Path) -> None:
    path = tmp_path / "last"
    write_folder_atomically(path, lambda folder: (folder / "a").write_text("1"))

    def fail(folder: Path) -> None:
        (folder / "a").write_text("2")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="free some space"):
        write_folder_atomically(path, fail)
    assert [(file.name, file.read_text()) for file in path.iterdir()] == [("a", "1")]
    write_folder_atomically(path, lambda folder: (folder / "b").write_text("3"))
    assert [(file.name, file.read_text()) for file in path.iterdir()] == [("b", "3")]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_stepped_aside_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "last"
    write_folder_atomically(path, lambda folder: (folder / "a").write_text("1"))
    path.rename(tmp_path / ".earlier-last")
    recover_folder(path)
    assert (path / "a").read_text() == "1"
