"""Inputs of like sizes share a batch, so that little of it is padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from torch import Tensor

LARGEST_SHARE_OF_PADDING = 0.25  # an image that would leave more of the batch's canvas empty starts a new batch


class HasPixels(Protocol):
    """Anything with pixels at the network's size."""

    @property
    def pixels(self) -> Tensor:
        """3 x height x width."""
        ...


Input = TypeVar("Input", bound=HasPixels)


def batches_of_like_sizes(inputs: Iterable[Input], batch_size: int) -> Iterator[list[Input]]:
    """Consecutive inputs in batches whose common canvas is at most a quarter padding."""
    batch: list[Input] = []
    for one in inputs:
        if batch and (len(batch) == batch_size or _share_of_padding([*batch, one]) > LARGEST_SHARE_OF_PADDING):
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def _share_of_padding(batch: Sequence[HasPixels]) -> float:
    sizes = [one.pixels.shape[-2:] for one in batch]
    canvas = max(height for height, _ in sizes) * max(width for _, width in sizes) * len(batch)
    return 1.0 - sum(height * width for height, width in sizes) / canvas
