"""How much memory tiled prediction takes above the model, said before it begins: measured on a gray tile.

What a network keeps grows with its cells; so what a narrow window or a whole image would take follows from the tile.
A model is measured once for each size of its input, not for each call: the second time the allocator would answer from
what it kept of the first, and nothing would be seen; and a call of a few tiles does not take one look more.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from smidgen.data.windows.raster_windows import CACHE_BYTES
from smidgen.inference.tiling.looks import scaled
from smidgen.inference.tiling.settings import Tiling
from smidgen.structures import ImageBatch, Preprocessing

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MEBIBYTE = 2**20
_MEASURED: WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], int | None]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class MemoryForecast:
    """In bytes, above the model. network: for one look, None where it cannot be measured (on the host outside Linux).
    pixels: one tile as it is read, resized and batched. reader: what a file's reader keeps. limit: what is allowed.
    """

    network: int | None
    pixels: int
    reader: int
    limit: int

    def of_batches(self, batch_size: int) -> int:
        """With this many looks at a time."""
        return self.reader + batch_size * (self.pixels + (self.network or 0))

    def fitting(self, batch_size: int) -> int:
        """The largest batch up to `batch_size` that keeps the limit. Raises ValueError where not even one look does."""
        room = (self.limit - self.reader) // (self.pixels + (self.network or 0))
        if room < 1:
            raise ValueError(
                f"one tile at a time takes about {self.of_batches(1) / _MEBIBYTE:.0f} MiB above the model, more than "
                f"the {self.limit / _MEBIBYTE:.0f} MiB allowed, {self.reader / _MEBIBYTE:.0f} MiB of it to read "
                "rasters; use more --memory, a smaller --tile or fewer --scales"
            )
        return min(batch_size, room)

    def left_for_decoding(self, batch_size: int) -> int:
        """What an image may take that must be decoded whole; the reader's share is free then."""
        return self.limit - (self.of_batches(batch_size) - self.reader)

    def described(self, batch_size: int) -> str:
        """For people."""
        network = "not measured" if self.network is None else f"{batch_size * self.network / _MEBIBYTE:.0f} MiB"
        return (
            f"memory above the model: about {self.of_batches(batch_size) / _MEBIBYTE:.0f} MiB of "
            f"{self.limit / _MEBIBYTE:.0f} MiB allowed (network {network}, pixels "
            f"{batch_size * self.pixels / _MEBIBYTE:.0f} MiB, reader {self.reader / _MEBIBYTE:.0f} MiB); "
            f"images that must be decoded whole (PNG, JPEG): up to "
            f"{self.left_for_decoding(batch_size) / _MEBIBYTE:.0f} MiB"
        )


def forecast(model: nn.Module, tiling: Tiling, device: torch.device | str) -> MemoryForecast:
    """What the largest that the model may be shown would take, from what one gray tile takes."""
    preprocessing: Preprocessing = model.config.preprocessing  # type: ignore[union-attr, assignment]
    largest = scaled(preprocessing, max(1.0, *tiling.scales) if tiling.whole_image else max(tiling.scales))
    height, width = largest.short_side, largest.long_side  # what a narrow window, or a whole image, may become
    pixels = 3 * tiling.tile_px**2 * 2 + 3 * height * width * 2  # read and as it was decoded; resized and batched
    tile_hw = preprocessing.resized_hw(tiling.tile_px, tiling.tile_px)
    of_tile = _measured_once(model, tile_hw, preprocessing.pad_multiple, torch.device(device))
    network = None if of_tile is None else int(of_tile * height * width / (tile_hw[0] * tile_hw[1]))
    return MemoryForecast(network, pixels, CACHE_BYTES, tiling.memory_bytes)


def _measured_once(model: nn.Module, tile_hw: tuple[int, int], pad_multiple: int, device: torch.device) -> int | None:
    """Bytes of one look at a gray tile of this size, as the model answered it first."""
    known, key = _MEASURED.setdefault(model, {}), (tile_hw, pad_multiple, device)
    if key not in known:
        gray = ImageBatch.collate([torch.full((3, *tile_hw), 128, dtype=torch.uint8)], pad_multiple)
        known[key] = _peak_bytes(model, gray.to(device), tile_hw)
    return known[key]


@torch.inference_mode()
def _peak_bytes(model: Any, batch: ImageBatch, window_hw: tuple[int, int]) -> int | None:
    if batch.pixels.is_cuda:
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        model.detect(batch, [window_hw])
        return torch.cuda.max_memory_allocated() - before
    if batch.pixels.device.type != "cpu" or not _RESET.exists():
        return None
    _RESET.write_text("5")  # the peak begins anew
    before = _resident_bytes("VmRSS")
    model.detect(batch, [window_hw])
    return max(0, _resident_bytes("VmHWM") - before)


def _resident_bytes(which: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(which + ":"):
            return int(line.split()[1]) * 1024
    return 0
