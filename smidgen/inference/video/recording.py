"""Answers written down as they come: a line of JSON per frame, and a frame of the annotated film if one is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from smidgen.inference.video.annotated_video import annotated_video
from smidgen.inference.video.detection import FrameDetections
from smidgen.inference.video.frame_lines import frame_record, write_line
from smidgen.inference.video.frames import BrokenFrame


@dataclass(frozen=True, slots=True)
class VideoCounts:
    """So far: frames with an answer, detections in them, and frames that could not be decoded."""

    frames: int = 0
    detections: int = 0
    broken: int = 0

    def plus(self, answer: FrameDetections | BrokenFrame) -> VideoCounts:
        """With one frame more."""
        if isinstance(answer, BrokenFrame):
            return VideoCounts(self.frames, self.detections, self.broken + 1)
        return VideoCounts(self.frames + 1, self.detections + len(answer.detections), self.broken)


def record_video(
    answers: Iterable[FrameDetections | BrokenFrame], lines: Path, film: Path | None = None
) -> Iterator[tuple[FrameDetections | BrokenFrame, VideoCounts]]:
    """Each answer once it is written, with the counts so far; nothing is written for an answer that is not asked for.

    lines: the .jsonl file, which grows line by line. film: the annotated film, which is there when the answers end or
    the caller stops. Where not even a first answer comes, the files of an earlier run stay as they were.
    """
    counts, answers = VideoCounts(), iter(answers)
    answers = chain(list(islice(answers, 1)), answers)
    lines.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as files:
        video = files.enter_context(annotated_video(film)) if film else None
        stream = files.enter_context(lines.open("w", encoding="ascii"))
        for answer in answers:
            write_line(stream, frame_record(answer))
            if video is not None and isinstance(answer, FrameDetections):
                video.add(answer)
            counts = counts.plus(answer)
            yield answer, counts
