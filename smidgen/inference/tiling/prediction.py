"""Detections of images of any size, tile by tile: read, look, merge, one image after the other, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from smidgen.boxes.tile_merging import MergedBoxes, SeenBoxes, merge_views
from smidgen.data.image_files import UnreadableImageError, shown
from smidgen.inference.batching import batches_of_like_sizes
from smidgen.inference.tiling.looks import Look, Looking, OnUnreadable, TiledImage
from smidgen.inference.tiling.memory import forecast
from smidgen.inference.tiling.settings import TileChooser, Tiling
from smidgen.inference.tiling.window_sources import ImageFile, WindowSource
from smidgen.structures import Classes, Detections, ImageBatch, Preprocessing

OnNote = Callable[[str], None]

PLAUSIBLE = 0.1
"""Score below which an answer hides nothing where it is full: a DETR fills it up with what is next to nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TiledSettings:
    """max_detections: of the merged image; None keeps all. batch_size: tiles at a time, fewer where memory wants it.
    device: where the model is.
    """

    tiling: Tiling
    score: float = 0.3
    max_detections: int | None = None
    batch_size: int = 1
    device: torch.device | str = "cpu"


def predict_tiled(
    model: nn.Module,
    files: Iterable[Path],
    tiling: Tiling,
    *,
    score: float,
    max_detections: int | None,
    batch_size: int,
    device: torch.device | str,
    on_unreadable: Callable[[UnreadableImageError], None],
    on_note: OnNote,
    choose: TileChooser | None = None,
) -> Iterator[Detections]:
    """One `Detections` per image, in the order of the files. Tiles of consecutive images share batches.

    max_detections: of the merged image; None keeps all. on_note: hears of the memory that will be taken, and of every
    limit that was met. choose: which tiles deserve a look (None: all).
    Raises ValueError where one tile needs more memory than `tiling.memory_bytes`.
    """
    settings = TiledSettings(
        tiling=tiling.for_model(model),
        score=score,
        max_detections=max_detections,
        batch_size=batch_size,
        device=device,
    )
    model = model.to(device).eval()
    on_note(stated_memory(model, settings))
    yield from detect_tiled(
        model,
        map(ImageFile, files),
        settings,
        on_unreadable=lambda _, error: on_unreadable(error),
        on_note=on_note,
        choose=choose,
    )


def stated_memory(model: nn.Module, settings: TiledSettings) -> str:
    """What looking at tiles will take and how much they share, in words, before it begins. model: in evaluation mode,
    on the device.

    Raises ValueError where one tile needs more than `tiling.memory_bytes`.
    """
    memory, asked = forecast(model, settings.tiling, settings.device), settings.batch_size
    fitting = memory.fitting(asked)
    fewer = "" if fitting == asked else f"; batches of {fitting}, not {asked}"
    return f"{memory.described(fitting)}{fewer}; {settings.tiling.chosen_overlap}"


def detect_tiled(
    model: nn.Module,
    sources: Iterable[WindowSource],
    settings: TiledSettings,
    *,
    on_unreadable: OnUnreadable,
    on_note: OnNote,
    choose: TileChooser | None = None,
) -> Iterator[Detections]:
    """As `predict_tiled`, of images wherever they lie; those that cannot be read are left out. model: in evaluation
    mode, on the device. on_note: hears of every limit that was met, not of memory.
    """
    detector: Any = model
    tiling, device = settings.tiling, settings.device
    memory = forecast(model, tiling, device)
    fitting = memory.fitting(settings.batch_size)
    preprocessing: Preprocessing = detector.config.preprocessing
    waiting: deque[TiledImage] = deque()
    looking = Looking(tiling, preprocessing, memory.left_for_decoding(fitting), on_unreadable, choose)
    finish = Finishing(detector.classes, settings, on_note)
    for batch in batches_of_like_sizes(looking.over(sources, waiting.append), fitting):
        _look_at(detector, preprocessing, batch, settings.score, device)
        yield from finish.answered(waiting)
    yield from finish.answered(waiting)


def _look_at(
    detector: Any, preprocessing: Preprocessing, batch: Sequence[Look], score: float, device: torch.device | str
) -> None:
    images = ImageBatch.collate([look.pixels for look in batch], preprocessing.pad_multiple).to(device)
    with torch.inference_mode():
        answers: list[Detections] = detector.detect(images, [look.window_hw for look in batch])
    for look, detections in zip(batch, answers, strict=True):
        limit = getattr(getattr(detector, "readout", None), "num_detections", None)
        look.image.full_looks += limit is not None and len(detections.above(max(score, PLAUSIBLE))) >= limit
        look.add(detections.above(score))


class Finishing:
    """Merges what was seen of each image that is answered, and says what a user should know about it."""

    def __init__(self, classes: Classes, settings: TiledSettings, on_note: OnNote) -> None:
        self._classes, self._tiling, self._note = classes, settings.tiling, on_note
        self._score, self._limit = settings.score, settings.max_detections

    def answered(self, waiting: deque[TiledImage]) -> Iterator[Detections]:
        """Take the first images off the queue while they are answered."""
        while waiting and waiting[0].is_answered:
            image = waiting.popleft()
            if not image.failed:
                yield self._detections(image)

    def _detections(self, image: TiledImage) -> Detections:
        merged = merge_views(
            _together(image.seen), image.plan.image_hw, self._tiling.merging, num_passes=self._tiling.num_passes
        ).above(self._score)  # which soft merging and fusion lower
        self._tell(image, merged)
        found = Detections(
            merged.boxes_xyxy.float(),
            merged.scores,
            merged.labels,
            image.plan.image_hw,
            image_id=image.name,
            file=image.name,
            class_names=self._classes.names,
            category_ids=self._classes.ids,
        )
        return found if self._limit is None else found[: self._limit]

    def _tell(self, image: TiledImage, merged: MergedBoxes) -> None:
        name, cut = shown(image.name), int(merged.cut.sum())
        if self._limit is not None and len(merged.scores) > self._limit:
            dropped = len(merged.scores) - self._limit
            self._note(f"{name}: {dropped} detections beyond the best {self._limit} dropped (--max-detections)")
        if image.full_looks:
            self._note(
                f"{name}: the model answered with all the detections it can give in {image.full_looks} looks; "
                "there may be more objects: use a smaller --tile"
            )
        if cut:
            self._note(
                f"{name}: {cut} detections are cut by a tile's border: some objects are larger than the overlap of "
                f"{self._tiling.overlap_px} px; use more --overlap, or --whole-image"
            )


def _together(seen: Sequence[SeenBoxes]) -> SeenBoxes:
    parts = [_NOTHING, *seen]
    columns: list[Tensor] = [torch.cat([getattr(part, name) for part in parts]) for name in _COLUMNS]
    return SeenBoxes(*columns)


_COLUMNS = ("boxes_xyxy", "scores", "labels", "views", "windows_xyxy", "owned")
_NOTHING = SeenBoxes(
    torch.zeros(0, 4, dtype=torch.float64),
    torch.zeros(0),
    torch.zeros(0, dtype=torch.int64),
    torch.zeros(0, dtype=torch.int64),
    torch.zeros(0, 4, dtype=torch.float64),
    torch.zeros(0, dtype=torch.bool),
)
