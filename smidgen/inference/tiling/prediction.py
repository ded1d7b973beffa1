"""Detections of images of any size, tile by tile: read, look, merge, one image after the other, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from smidgen.boxes.tile_merging import MergedBoxes, SeenBoxes, merge_views
from smidgen.data.image_files import shown
from smidgen.inference.batching import batches_of_like_sizes
from smidgen.inference.tiling.looks import Look, Looking, OnUnreadable, TiledImage
from smidgen.inference.tiling.memory import forecast
from smidgen.inference.tiling.settings import TileChooser, Tiling
from smidgen.structures import Classes, Detections, ImageBatch, Preprocessing

OnNote = Callable[[str], None]


def predict_tiled(
    model: nn.Module,
    files: Iterable[Path],
    tiling: Tiling,
    *,
    score: float,
    max_detections: int | None,
    batch_size: int,
    device: torch.device | str,
    on_unreadable: OnUnreadable,
    on_note: OnNote,
    choose: TileChooser | None = None,
) -> Iterator[Detections]:
    """One `Detections` per image, in the order of the files. Tiles of consecutive images share batches.

    max_detections: of the merged image; None keeps all. on_note: hears of the memory that will be taken, and of every
    limit that was met. choose: which tiles deserve a look (None: all).
    Raises ValueError where one tile needs more memory than `tiling.memory_bytes`.
    """
    detector: Any = model.to(device).eval()
    memory = forecast(detector, tiling, device)
    fitting = memory.fitting(batch_size)
    on_note(memory.described(fitting) + ("" if fitting == batch_size else f"; batches of {fitting}, not {batch_size}"))
    preprocessing: Preprocessing = detector.config.preprocessing
    waiting: deque[TiledImage] = deque()
    looking = Looking(tiling, preprocessing, memory.left_for_decoding(fitting), on_unreadable, choose)
    looks = looking.over(files, waiting.append)
    finish = Finishing(detector.classes, tiling, score, max_detections, on_note)
    for batch in batches_of_like_sizes(looks, fitting):
        _look_at(detector, preprocessing, batch, score, device)
        yield from finish.answered(waiting)
    yield from finish.answered(waiting)


def _look_at(
    detector: Any, preprocessing: Preprocessing, batch: Sequence[Look], score: float, device: torch.device | str
) -> None:
    images = ImageBatch.collate([look.pixels for look in batch], preprocessing.pad_multiple).to(device)
    with torch.inference_mode():
        answers: list[Detections] = detector.detect(images, [look.window_hw for look in batch])
    for look, detections in zip(batch, answers, strict=True):
        chosen = detections.above(score)
        limit = getattr(getattr(detector, "readout", None), "num_detections", None)
        look.image.full_looks += limit is not None and len(chosen) >= limit
        look.add(chosen)


class Finishing:
    """Merges what was seen of each image that is answered, and says what a user should know about it."""

    def __init__(
        self, classes: Classes, tiling: Tiling, score: float, max_detections: int | None, on_note: OnNote
    ) -> None:
        self._classes, self._tiling, self._note = classes, tiling, on_note
        self._score, self._limit = score, max_detections

    def answered(self, waiting: deque[TiledImage]) -> Iterator[Detections]:
        """Take the first images off the queue while they are answered."""
        while waiting and waiting[0].is_answered:
            image = waiting.popleft()
            if not image.failed:
                yield self._detections(image)

    def _detections(self, image: TiledImage) -> Detections:
        merged = merge_views(
            _together(image.seen), image.plan.image_hw, self._tiling.merging, num_passes=self._tiling.num_passes
        )
        self._tell(image, merged)
        found = Detections(
            merged.boxes_xyxy.float(),
            merged.scores,
            merged.labels,
            image.plan.image_hw,
            image_id=str(image.file),
            file=str(image.file),
            class_names=self._classes.names,
            category_ids=self._classes.ids,
        ).above(self._score)
        return found if self._limit is None else found[: self._limit]

    def _tell(self, image: TiledImage, merged: MergedBoxes) -> None:
        name, cut = shown(image.file), int(merged.cut.sum())
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
