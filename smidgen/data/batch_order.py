"""Which images make up which batch of an epoch: shuffled, similar shapes together, independent of workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Batches are formed by shape within this many consecutive shuffled batches: enough to fit, few enough to stay random.
_NEIGHBORHOOD_BATCHES = 16
# First words of the seeds, so that no two purposes share a random stream.
_ORDER_STREAM, _SAMPLE_STREAM, _BATCH_STREAM = 0, 1, 2


@dataclass(frozen=True, slots=True)
class SampleKey:
    """What decides a training sample. index: image; position: place in the epoch over all ranks; step: its batch."""

    epoch: int
    step: int
    position: int
    index: int


@dataclass(frozen=True, slots=True)
class BatchOrder:
    """aspect_ratios: width / height of each image; None = shapes do not matter. batch_size: per rank.

    sources: the image that each sample is cut from; the samples of `mixed` images are shuffled together, then those of
    the next, so that an image is decoded once and not for every sample. None = each sample is an image.
    """

    count: int
    batch_size: int
    seed: int
    aspect_ratios: npt.NDArray[np.float64] | None = None
    rank: int = 0
    world_size: int = 1
    sources: npt.NDArray[np.int64] | None = None
    mixed: int = 1

    def __len__(self) -> int:
        """Batches per rank: the last incomplete one is left out unless it is the only one."""
        return max(1, self.count // self._global_size)

    def epoch(self, epoch: int) -> list[list[SampleKey]]:
        """This rank's batches, in order."""
        order = self._order(epoch)
        return [self._batch(epoch, step, order) for step in range(len(self))]

    @property
    def _global_size(self) -> int:
        return self.batch_size * self.world_size

    def _batch(self, epoch: int, step: int, order: Sequence[int]) -> list[SampleKey]:
        start = step * self._global_size + self.rank * self.batch_size
        stop = start + self.batch_size
        if self.world_size == 1:
            stop = min(stop, self.count)
        # Several ranks need equally many images each: a set smaller than one global batch repeats itself.
        return [SampleKey(epoch, step, position, order[position % self.count]) for position in range(start, stop)]

    def _order(self, epoch: int) -> list[int]:
        rng = np.random.default_rng([_ORDER_STREAM, self.seed, epoch])
        order = rng.permutation(self.count) if self.sources is None else _by_source(self.sources, self.mixed, rng)
        if self.aspect_ratios is not None and self.count > self._global_size:
            order = self._grouped(order, self.aspect_ratios, rng)
        return [int(index) for index in order]

    def _grouped(
        self, order: npt.NDArray[np.int64], aspect_ratios: npt.NDArray[np.float64], rng: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        """Sort each neighborhood by shape, then shuffle the whole batches; what is left over stays at the end."""
        size = self._global_size
        full = len(self) * size
        hood = size * _NEIGHBORHOOD_BATCHES
        chunks = [order[start : min(start + hood, full)] for start in range(0, full, hood)]
        batches = np.concatenate([_by_shape(chunk, aspect_ratios) for chunk in chunks]).reshape(-1, size)
        return np.concatenate([rng.permutation(batches).reshape(-1), order[full:]])


def sample_generator(seed: int, key: SampleKey) -> np.random.Generator:
    """The random stream of one sample."""
    return np.random.default_rng([_SAMPLE_STREAM, seed, key.epoch, key.position])


def batch_generator(seed: int, key: SampleKey) -> np.random.Generator:
    """The random stream that all samples of a batch share, over all ranks."""
    return np.random.default_rng([_BATCH_STREAM, seed, key.epoch, key.step])


def _by_source(sources: npt.NDArray[np.int64], mixed: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    place = rng.permutation(int(sources.max(initial=-1)) + 1)[sources]
    return np.lexsort((rng.random(len(sources)), place // mixed))


def _by_shape(chunk: npt.NDArray[np.int64], aspect_ratios: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return chunk[np.argsort(aspect_ratios[chunk], kind="stable")]
