"""Detections of frames as they come, in batches, with nothing held that has been answered."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from smidgen.data import UnreadableImageError
from smidgen.inference.guided_tiling import Guide, GuidedTiles, tile_chooser
from smidgen.inference.loaded_images import MOST_DETECTIONS, DetectionSettings, LoadedImage, detect_loaded
from smidgen.inference.tiling.prediction import OnNote, TiledSettings, detect_tiled, stated_memory
from smidgen.inference.tiling.settings import Tiling
from smidgen.inference.tiling.window_sources import ImageInMemory
from smidgen.inference.video.frames import BrokenFrame, Frame
from smidgen.structures import Detections

_LOGGER = logging.getLogger(__name__)

Detect = Callable[[Iterable[LoadedImage]], Iterator[Detections]]


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
    max_detections: int | None = None,
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    tiling: Tiling | None = None,
    guide: Guide | GuidedTiles | None = None,
    on_note: OnNote | None = None,
) -> Iterator[FrameDetections | BrokenFrame]:
    """Each frame with its detections, and each broken one as it is, in the order given; one batch is held in memory.

    max_detections: per frame; None is 300, and no limit with `tiling`. tiling: look at overlapping tiles of each frame;
    `batch_size` is tiles then. guide: look only at tiles in which a look from afar sees something; `GuidedTiles` counts
    them, too. on_note: hears of the memory that tiles will take, and of limits that were met (None: logged).
    Raises ValueError for settings out of range.
    """
    settings = DetectionSettings(score, MOST_DETECTIONS if max_detections is None else max_detections)
    choose = tile_chooser(model, guide, tiling, device)
    model = model.to(device).eval()
    detect: Detect = partial(detect_loaded, model, settings=settings, batch_size=batch_size, device=device)
    if tiling is not None:
        tiles = TiledSettings(
            tiling=tiling.for_model(model),
            score=score,
            max_detections=max_detections,
            batch_size=batch_size,
            device=device,
        )
        detect = partial(_in_tiles, model, settings=tiles, choose=choose, on_note=on_note or _LOGGER.warning)
    return _with_frames(frames, detect)


def _in_tiles(
    model: nn.Module,
    images: Iterable[LoadedImage],
    settings: TiledSettings,
    choose: GuidedTiles | None,
    on_note: OnNote,
) -> Iterator[Detections]:
    on_note(stated_memory(model, settings))
    sources = (ImageInMemory(image.name, image.pixels) for image in images)
    yield from detect_tiled(model, sources, settings, on_unreadable=_never, on_note=on_note, choose=choose)


def _never(name: str, error: UnreadableImageError) -> None:
    raise AssertionError(f"{name} is in memory") from error


def _with_frames(frames: Iterable[Frame | BrokenFrame], detect: Detect) -> Iterator[FrameDetections | BrokenFrame]:
    """The frames that wait for their answer, each with its own."""
    waiting: deque[Frame | BrokenFrame] = deque()
    for detections in detect(_images(frames, waiting)):
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
