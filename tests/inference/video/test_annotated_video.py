"""The film that comes out has the times of the one that went in, and can be played whatever happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from bright_spot import BrightSpot
from clips import write_clip

from smidgen.inference.video import annotated_video, detect_frames, video_frames

av = pytest.importorskip("av")


def annotate(clip: Path, out: Path, stop_after: int | None = None) -> None:
    with annotated_video(out) as video:
        for count, answer in enumerate(detect_frames(BrightSpot(), video_frames(str(clip)))):
            if count == stop_after:
                raise KeyboardInterrupt
            video.add(answer)


def test_times_and_boxes_are_in_it(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.5, 0.52, 2.0]
    annotate(write_clip(tmp_path / "clip.mkv", times), tmp_path / "out" / "seen.mp4")
    frames = list(video_frames(str(tmp_path / "out" / "seen.mp4")))
    assert [frame.seconds for frame in frames] == pytest.approx(times, abs=2e-3)
    red, green, blue = frames[0].pixels.int()
    colored = (red - green).abs() + (green - blue).abs() > 120
    assert colored.sum() > 100, "an outline and a legend in the color of the class"


def test_an_interrupted_film_can_be_played(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", [index / 25 for index in range(8)])
    with pytest.raises(KeyboardInterrupt):
        annotate(clip, tmp_path / "seen.mp4", stop_after=5)
    assert len(list(video_frames(str(tmp_path / "seen.mp4")))) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "seen.mp4"]


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"\.mp4, \.m4v, \.mov or \.mkv, got out\.gif"),
        annotated_video(tmp_path / "out.gif"),
    ):
        pass
