"""A film of the detections: H.264 in MP4, with the source's times and every class in the legend of every frame."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from smidgen.checkpoints.atomic_write import failures_explained
from smidgen.inference.drawing import draw_detections
from smidgen.inference.video.detection import FrameDetections
from smidgen.inference.video.frames import require_av

TICKS_PER_SECOND = 90_000  # of the MPEG clock: no frame rate in use is rounded by more than a few microseconds
MOST_CLASSES_IN_LEGEND = 16
_LEGEND_BACKGROUND = (24, 26, 30)


class AnnotatedVideo:
    """Adds frames to an open container; the first one decides about the size of all."""

    def __init__(self, container: Any) -> None:
        self._container = container
        self._stream: Any = None
        self._last_tick = -1

    def add(self, answer: FrameDetections) -> None:
        """Draw a frame and its detections, and encode it."""
        picture = drawn(answer)
        if self._stream is None:
            self._stream = _h264_stream(self._container, picture)
        frame = require_av().VideoFrame.from_ndarray(_fitted(picture, self._stream), format="rgb24")
        # Ticks must grow, also where a broken clock says otherwise.
        self._last_tick = max(self._last_tick + 1, round(answer.frame.seconds * TICKS_PER_SECOND))
        frame.pts, frame.time_base = self._last_tick, Fraction(1, TICKS_PER_SECOND)
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Encode what the encoder still holds."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))


@contextmanager
def annotated_video(path: Path) -> Iterator[AnnotatedVideo]:
    """Open `path` (.mp4) for frames; it is there, and can be played, when the block ends, also by Ctrl-C.

    Raises ValueError for another suffix; OSError where it cannot be written.
    """
    if path.suffix.lower() not in (".mp4", ".m4v", ".mov", ".mkv"):
        raise ValueError(f"expected a name ending in .mp4, .m4v, .mov or .mkv, got {path.name}; change --video")
    partial = path.with_name(f".partial-{path.name}")
    with failures_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with require_av().open(str(partial), "w") as container:
                video = AnnotatedVideo(container)
                try:
                    yield video
                finally:
                    video.finish()
        finally:
            if partial.exists():
                partial.replace(path)


def drawn(answer: FrameDetections) -> Image.Image:
    """The frame with outlines, and a legend of all classes unless there are too many."""
    pixels = np.ascontiguousarray(answer.frame.pixels.permute(1, 2, 0).numpy())
    few = len(answer.detections.class_names) <= MOST_CLASSES_IN_LEGEND
    return draw_detections(Image.fromarray(pixels), answer.detections, legend=few, all_classes=True)


def _h264_stream(container: Any, picture: Image.Image) -> Any:
    stream = container.add_stream("libx264", rate=TICKS_PER_SECOND, options={"crf": "20", "preset": "veryfast"})
    # Chroma has half the resolution, so both sides must be even.
    stream.width, stream.height = (picture.width + 1) // 2 * 2, (picture.height + 1) // 2 * 2
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = Fraction(1, TICKS_PER_SECOND)
    return stream


def _fitted(picture: Image.Image, stream: Any) -> np.ndarray[Any, Any]:
    """The picture on the film's canvas: cut or filled up at the right and below."""
    canvas = Image.new("RGB", (stream.width, stream.height), _LEGEND_BACKGROUND)
    canvas.paste(picture, (0, 0))
    return np.asarray(canvas)
