"""Clips made for tests: a white square that moves 4 px a frame over black, at times of one's choice."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")

SIZE_WH = (64, 48)
SQUARE_PX = 12
STEP_PX = 4


def square(index: int) -> np.ndarray:
    """Pixels of a frame, H x W x 3."""
    pixels = np.zeros((SIZE_WH[1], SIZE_WH[0], 3), dtype=np.uint8)
    left = square_left(index)
    pixels[16 : 16 + SQUARE_PX, left : left + SQUARE_PX] = 255
    return pixels


def square_left(index: int) -> int:
    return STEP_PX * (index % ((SIZE_WH[0] - SQUARE_PX) // STEP_PX))


def write_clip(path: Path, times: Sequence[float], codec: str = "libx264", **muxing: str) -> Path:
    """A film whose frames are shown at these seconds. muxing: options of the container."""
    with av.open(str(path), "w", options=muxing) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE_WH, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, seconds in enumerate(times):
            frame = av.VideoFrame.from_ndarray(square(index), format="rgb24")
            frame.pts, frame.time_base = round(1000 * seconds), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
