"""Frames keep their times and their order, and broken ones are told."""

from __future__ import annotations

from pathlib import Path

import pytest
from clips import SIZE_WH, square, write_clip

from smidgen.inference.video import BrokenFrame, Frame, UnreadableVideoError, is_video, video_frames, video_source

av = pytest.importorskip("av")


def test_times_of_a_variable_rate_are_kept(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.5, 0.52, 2.0, 2.04]
    frames = list(video_frames(str(write_clip(tmp_path / "clip.mkv", times))))
    assert [frame.index for frame in frames] == list(range(6))
    assert [frame.seconds for frame in frames] == pytest.approx(times, abs=2e-3)
    for frame in frames:
        assert isinstance(frame, Frame) and frame.pixels.shape == (3, SIZE_WH[1], SIZE_WH[0])
        seen = frame.pixels.permute(1, 2, 0).numpy() > 128
        assert (seen == (square(frame.index) > 128)).mean() > 0.98


def test_times_begin_at_zero(tmp_path: Path) -> None:
    times = [index / 25 for index in range(30)]
    clip = write_clip(tmp_path / "clip.ts", [7.0 + seconds for seconds in times])
    assert [frame.seconds for frame in video_frames(str(clip))] == pytest.approx(times, abs=2e-3)


def test_every_third(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", [index / 25 for index in range(10)])
    frames = list(video_frames(str(clip), every=3))
    assert [(frame.index, round(frame.seconds, 2)) for frame in frames] == [(0, 0), (3, 0.12), (6, 0.24), (9, 0.36)]


def test_a_damaged_frame_is_told_and_skipped(tmp_path: Path) -> None:
    """Frames of motion JPEG stand alone, so damage in one is no damage in the others."""
    clip = write_clip(tmp_path / "clip.mkv", [index / 25 for index in range(6)], codec="mjpeg")
    content = bytearray(clip.read_bytes())
    start = [place for place in range(len(content)) if content[place : place + 3] == b"\xff\xd8\xff"][3]
    content[start : start + 640] = bytes(640)
    clip.write_bytes(content)
    frames = list(video_frames(str(clip)))
    assert [(frame.index, frame.seconds) for frame in frames] == [
        (index, pytest.approx(index / 25)) for index in range(6)
    ]
    assert [frame.index for frame in frames if isinstance(frame, BrokenFrame)] == [3]


def test_a_truncated_file_gives_what_it_has(tmp_path: Path) -> None:
    times = [index / 25 for index in range(50)]
    clip = write_clip(tmp_path / "clip.mov", times, codec="mjpeg", movflags="faststart")
    clip.write_bytes(clip.read_bytes()[: int(clip.stat().st_size * 0.8)])
    frames = list(video_frames(str(clip)))
    readable = [frame for frame in frames if isinstance(frame, Frame)]
    assert 30 < len(readable) < 45
    broken = [frame.reason for frame in frames if isinstance(frame, BrokenFrame)]
    assert broken[-1] == f"the file ends after {len(frames) - 1} of 50 frames"


@pytest.mark.parametrize(("content", "reason"), [(b"", "Invalid data"), (b"no film" * 99, "Invalid data")])
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(UnreadableVideoError, match=reason):
        list(video_frames(str(tmp_path / "clip.mp4")))
    with pytest.raises(UnreadableVideoError, match="No such file"):
        list(video_frames(str(tmp_path / "nowhere.mp4")))


def test_sources_are_recognized(tmp_path: Path) -> None:
    videos = ["clip.mp4", "A.MOV", "rtsp://camera:554/1", "http://host/live", "frames/%05d.png"]
    assert all(map(is_video, videos))
    images = ["a.jpg", "frames/*.png", "*.mp4", "s3://bucket/clip", "http://host/a.jpg", "frames"]
    assert not any(map(is_video, images))
    assert is_video("frames/*.png", frames_per_second=10.0)
    with pytest.raises(ValueError, match="--every of at least 1"):
        video_source("clip.mp4", every=0)
