"""Pictures with numbers are frames in the order of the numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from bright_spot import write_spot

from smidgen.inference.video import BrokenFrame, numbered_frames
from smidgen.inference.video.numbered_frames import numbered_files


def test_numbers_are_in_order_wherever_they_begin(tmp_path: Path) -> None:
    for number in (9, 10, 11, 100):
        write_spot(tmp_path / f"frame_{number}.png")
    write_spot(tmp_path / "frame_x.png")
    names = [file.name for file in numbered_files(str(tmp_path / "frame_%d.png"))]
    assert names == ["frame_9.png", "frame_10.png", "frame_11.png", "frame_100.png"]
    assert [file.name for file in numbered_files(str(tmp_path / "frame_[0-9]*.png"))] == names


def test_times_come_from_the_rate_and_broken_pictures_are_told(tmp_path: Path) -> None:
    for number in range(5):
        write_spot(tmp_path / f"{number:03d}.png")
    (tmp_path / "002.png").write_bytes(b"")
    frames = list(numbered_frames(str(tmp_path / "%03d.png"), frames_per_second=10.0, every=2))
    assert [(frame.index, frame.seconds) for frame in frames] == [(0, 0.0), (2, 0.2), (4, 0.4)]
    assert isinstance(frames[1], BrokenFrame) and "002.png: the file is empty" in frames[1].reason


def test_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"%03d\.png, found none"):
        list(numbered_frames(str(tmp_path / "%03d.png"), 25.0))
