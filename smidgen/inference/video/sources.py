"""Which sources are videos: by suffix, by URL, by a place for a number in the name."""

from __future__ import annotations

from collections.abc import Iterator
from glob import has_magic
from pathlib import Path

from smidgen.data.image_files import IMAGE_SUFFIXES
from smidgen.inference.video.frames import BrokenFrame, Frame, video_frames
from smidgen.inference.video.numbered_frames import is_numbered, numbered_frames

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".wmv", ".flv", ".ogv",
     ".3gp", ".mjpeg", ".mjpg", ".h264", ".hevc", ".y4m"}
)  # fmt: skip
STREAM_SCHEMES = frozenset({"rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "srt", "hls"})
FRAMES_PER_SECOND = 25.0
"""Of numbered pictures, unless somebody knows better."""


def is_video(source: str, frames_per_second: float | None = None) -> bool:
    """Whether `video_source` opens it: a video's suffix, a stream's URL, a numbered name; with a rate, a pattern."""
    scheme, separator, rest = source.partition("://")
    if separator:
        return scheme.lower() in STREAM_SCHEMES and Path(rest).suffix.lower() not in IMAGE_SUFFIXES
    if Path(source).suffix.lower() in VIDEO_SUFFIXES:
        return not has_magic(source) or Path(source).exists()
    return is_numbered(source) or (frames_per_second is not None and has_magic(source))


def video_source(
    source: str, *, every: int = 1, frames_per_second: float | None = None
) -> Iterator[Frame | BrokenFrame]:
    """Frames of a file, a stream or numbered pictures, every so many.

    frames_per_second: of numbered pictures (None: 25). Raises ValueError for numbers below 1 and, at the first step,
    what `video_frames` and `numbered_frames` raise.
    """
    if every < 1 or (frames_per_second is not None and frames_per_second <= 0):
        raise ValueError(f"expected --every of at least 1 and --fps above 0, got {every} and {frames_per_second}")
    if is_numbered(source) or (has_magic(source) and "://" not in source and not Path(source).exists()):
        return numbered_frames(source, frames_per_second or FRAMES_PER_SECOND, every)
    return video_frames(source, every)
