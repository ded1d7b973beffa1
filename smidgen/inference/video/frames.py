"""Frames of a video file or stream with their times, and a note where one could not be decoded (PyAV, extra `video`).

Times are those of the container, so that a variable frame rate stays one. What a decoder marks as damaged, as before
the first key frame of a camera's stream, is reported and not shown to a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

SECONDS_TO_OPEN = 20.0
SECONDS_TO_READ = 20.0
"""A camera that sends nothing for so long has gone."""


class UnreadableVideoError(ValueError):
    """A file or stream of which no frame can be had."""


@dataclass(frozen=True, slots=True)
class Frame:
    """index: counts all frames from 0, in the order they are shown. seconds: since the beginning. pixels: RGB."""

    index: int
    seconds: float
    pixels: UInt8[Tensor, "3 H W"]


@dataclass(frozen=True, slots=True)
class BrokenFrame:
    """A frame that could not be decoded, or the place where a file ends too early. seconds: None = not known."""

    index: int
    seconds: float | None
    reason: str


def require_av() -> Any:
    """PyAV. Raises ValueError that says how to get it."""
    try:
        import av
    except ImportError as error:
        raise ValueError("videos need an extra: pip install 'smidgen[video]'") from error
    return av


def video_frames(source: str, every: int = 1) -> Iterator[Frame | BrokenFrame]:
    """Every so many frames of a file, or of a URL that PyAV opens (rtsp, http, udp), in the order they are shown.

    Only frames in the decoder are held. Broken ones are told wherever they are. Raises UnreadableVideoError at the
    first step where nothing can be read; ValueError where PyAV is missing.
    """
    av = require_av()
    with _opened(av, source) as container:
        stream = _video_stream(container, source)
        stream.thread_type = "AUTO"
        for index, decoded in enumerate(_decoded(av, container, stream)):
            seconds = _seconds(decoded, index, stream)
            if isinstance(decoded, _Failure) or decoded.is_corrupt:
                reason = decoded.reason if isinstance(decoded, _Failure) else "its data are damaged"
                yield BrokenFrame(index, seconds, reason)
            elif index % every == 0:
                yield Frame(index, seconds or 0.0, upright_pixels(decoded))


@dataclass(frozen=True, slots=True)
class _Failure:
    """In the place of a decoded frame. time: seconds on the container's clock; None = not known."""

    time: float | None
    reason: str


def upright_pixels(frame: Any) -> UInt8[Tensor, "3 H W"]:
    """RGB of a decoded frame, turned as its display matrix says: telephones store films lying on their side."""
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _opened(av: Any, source: str) -> Any:
    try:
        return av.open(source, timeout=(SECONDS_TO_OPEN, SECONDS_TO_READ))
    except (av.error.FFmpegError, OSError) as error:
        raise UnreadableVideoError(f"cannot read the video {source}: {_words(error)}") from error


def _video_stream(container: Any, source: str) -> Any:
    if not container.streams.video:
        raise UnreadableVideoError(f"cannot read the video {source}: it has no pictures")
    return container.streams.video[0]


def _decoded(av: Any, container: Any, stream: Any) -> Iterator[Any]:
    """Frames as PyAV decodes them, and a failure in the place of each that it cannot."""
    count = 0
    try:
        for packet in container.demux(stream):
            frames = _frames_of(av, packet)
            count += len(frames)
            yield from frames
    except (av.error.FFmpegError, OSError) as error:
        yield _Failure(None, f"reading ended: {_words(error)}")
    if count < stream.frames:
        yield _Failure(None, f"the file ends after {count} of {stream.frames} frames")


def _frames_of(av: Any, packet: Any) -> list[Any]:
    try:
        decoded: list[Any] = packet.decode()
        return decoded
    except av.error.EOFError:
        return []
    except av.error.FFmpegError as error:
        return [_Failure(None if packet.pts is None else float(packet.pts * packet.time_base), _words(error))]


def _seconds(frame: Any, index: int, stream: Any) -> float | None:
    """Since the stream's beginning; by the frame rate where the container does not say."""
    if frame.time is not None:
        return float(frame.time - (stream.start_time or 0) * (stream.time_base or 0))
    return float(index / stream.average_rate) if stream.average_rate else None


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
