"""Detections of frames as they come, in batches, with nothing held that has been answered."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from smidgen.inference.loaded_images import DetectionSettings, LoadedImage, detect_loaded
from smidgen.inference.video.frames import BrokenFrame, Frame
from smidgen.structures import Detections


@dataclass(frozen=True, slots=True)
class FrameDetections:
    """A frame with what was found in it, in its pixels."""

    frame: Frame
    detections: Detections


def detect_frames(
    model: nn.Module,
    frames: Iterable[Frame | BrokenFrame],
    *,
    score: float = 0.3,
    max_detections: int = 300,
    batch_size: int = 1,
    device: str | torch.device = "cpu",
) -> Iterator[FrameDetections | BrokenFrame]:
    """Each frame with its detections, and each broken one as it is, in the order given; one batch is held in memory.

    Raises ValueError for settings out of range.
    """
    settings = DetectionSettings(score, max_detections)
    model = model.to(device).eval()
    waiting: deque[Frame | BrokenFrame] = deque()
    images = _images(frames, waiting)
    for detections in detect_loaded(model, images, settings, batch_size=batch_size, device=device):
        yield from _broken_first(waiting)
        frame = waiting.popleft()
        assert isinstance(frame, Frame)
        yield FrameDetections(frame, detections)
        del frame, detections
    yield from _broken_first(waiting)


def _images(frames: Iterable[Frame | BrokenFrame], waiting: deque[Frame | BrokenFrame]) -> Iterator[LoadedImage]:
    """Pixels for the model, while the frames wait for their answer."""
    for frame in frames:
        waiting.append(frame)
        if isinstance(frame, Frame):
            yield LoadedImage(f"frame {frame.index}", frame.pixels)


def _broken_first(waiting: deque[Frame | BrokenFrame]) -> Iterator[BrokenFrame]:
    while waiting and isinstance(waiting[0], BrokenFrame):
        broken = waiting.popleft()
        assert isinstance(broken, BrokenFrame)
        yield broken
