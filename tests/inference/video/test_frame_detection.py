"""Every frame gets its own detections, in order, and nothing piles up."""

from __future__ import annotations

import io
import json
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from bright_blobs import BrightBlobs
from bright_spot import BrightSpot
from clips import SQUARE_PX, square, square_left, write_clip

from smidgen.inference import Guide, Tiling
from smidgen.inference.video import BrokenFrame, Frame, FrameDetections, detect_frames, frame_record, write_line
from smidgen.inference.video.frames import video_frames

TILING = Tiling(tile_px=32, overlap="20px")


def frames(count: int) -> Iterator[Frame]:
    for index in range(count):
        yield Frame(index, index / 25, torch.from_numpy(square(index)).permute(2, 0, 1).contiguous())


@pytest.mark.parametrize("batch_size", [1, 4])
def test_each_frame_has_its_own(tmp_path: Path, batch_size: int) -> None:
    clip = write_clip(tmp_path / "clip.mp4", [index / 25 for index in range(9)])
    for answer in detect_frames(BrightSpot(), video_frames(str(clip)), batch_size=batch_size):
        assert isinstance(answer, FrameDetections) and len(answer.detections) == 1
        left, top, right, bottom = answer.detections.boxes_xyxy[0].tolist()
        expected = square_left(answer.frame.index)
        assert (left, top, right, bottom) == pytest.approx((expected, 16, expected + SQUARE_PX, 28), abs=3)


@pytest.mark.parametrize("tiling", [None, TILING])
def test_broken_frames_keep_their_place(tiling: Tiling | None) -> None:
    good = list(frames(5))
    mixed = [BrokenFrame(9, None, "a"), good[0], BrokenFrame(8, 0.5, "b"), *good[1:4], BrokenFrame(7, None, "c")]
    answers = list(detect_frames(BrightSpot(), mixed, batch_size=3, tiling=tiling, on_note=lambda note: None))
    assert [one.index if isinstance(one, BrokenFrame) else one.frame.index for one in answers] == [9, 0, 8, 1, 2, 3, 7]


def test_tiles_of_frames_find_what_the_frames_hold() -> None:
    notes: list[str] = []
    answers = list(detect_frames(BrightBlobs(32), frames(9), tiling=TILING, batch_size=4, on_note=notes.append))
    assert notes[0].startswith("memory above the model: about")
    for index, answer in enumerate(answers):
        assert isinstance(answer, FrameDetections) and answer.frame.index == index
        left = square_left(index)
        assert answer.detections.boxes_xyxy.tolist() == [[left, 16, left + SQUARE_PX, 28]]


@pytest.mark.parametrize(("tiling", "length"), [(None, 600), (TILING, 60)])
def test_memory_does_not_grow_with_the_film(tiling: Tiling | None, length: int) -> None:
    """Live pixels over a film: the batch, what is waiting for it, and the one in hand."""
    alive: set[int] = set()

    def watched() -> Iterator[Frame]:
        for frame in frames(length):
            alive.add(frame.index)
            weakref.finalize(frame.pixels, alive.discard, frame.index)
            yield frame

    looks = {"tiling": tiling, "on_note": lambda note: None}
    most = [len(alive) for _ in detect_frames(BrightSpot(), watched(), batch_size=4, **looks)]
    assert len(most) == length
    assert 2 <= max(most) <= 12


def test_lines_say_what_predictions_say() -> None:
    stream = io.StringIO()
    for answer in detect_frames(BrightSpot(), [next(frames(1)), BrokenFrame(1, None, "cut short")]):
        write_line(stream, frame_record(answer))
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["frame"], first["seconds"]) == (0, 0.0)
    assert {key: first["detections"][0][key] for key in ("score", "category_id", "category")} == {
        "score": 0.9, "category_id": 7, "category": "spot",
    }  # fmt: skip
    assert second == {"frame": 1, "seconds": None, "detections": [], "error": "cut short"}


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="--score"):
        list(detect_frames(BrightSpot(), frames(1), score=2.0))
    with pytest.raises(ValueError, match="give tiling, too"):
        list(detect_frames(BrightSpot(), frames(1), guide=Guide()))
