"""What is written of a video: a line for each frame, and nothing in the place of an earlier run's without a frame."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bright_spot import BrightSpot
from clips import write_clip

from smidgen.inference.video import UnreadableVideoError, VideoCounts, detect_frames, record_video, video_frames


def record(clip: Path, lines: Path, film: Path | None = None) -> VideoCounts:
    answers = detect_frames(BrightSpot(), video_frames(str(clip)))
    return [counts for _, counts in record_video(answers, lines, film)][-1]


def test_a_line_for_every_frame(tmp_path: Path) -> None:
    counts = record(write_clip(tmp_path / "clip.mp4", [0.0, 0.04, 0.08]), tmp_path / "out" / "clip.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out" / "clip.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == [0, 1, 2]
    assert counts == VideoCounts(frames=3, detections=sum(len(line["detections"]) for line in lines))


def test_a_source_that_gives_nothing_leaves_the_earlier_lines(tmp_path: Path) -> None:
    (tmp_path / "clip.jsonl").write_text("earlier")
    (tmp_path / "clip.mp4").write_text("no video")
    for source in ("clip.mp4", "missing.mp4"):
        with pytest.raises(UnreadableVideoError):
            record(tmp_path / source, tmp_path / "clip.jsonl", tmp_path / "film.mp4")
    assert (tmp_path / "clip.jsonl").read_text() == "earlier"
    assert not (tmp_path / "film.mp4").exists()


def test_a_film_of_another_kind_leaves_the_earlier_lines(tmp_path: Path) -> None:
    (tmp_path / "clip.jsonl").write_text("earlier")
    with pytest.raises(ValueError, match="--video"):
        record(write_clip(tmp_path / "clip.mp4", [0.0]), tmp_path / "clip.jsonl", tmp_path / "film.gif")
    assert (tmp_path / "clip.jsonl").read_text() == "earlier"
