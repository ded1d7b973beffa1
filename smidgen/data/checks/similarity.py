"""Near copies among many images: hashes in bands find candidates without comparing all pairs, small copies decide.

If two 64-bit hashes differ in at most 5 bits, at least one of 6 bands of bits is the same in both (pigeonhole), so
only images that share a band are compared (locality sensitive hashing; Indyk and Motwani, 1998).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64, UInt8, UInt64

MOST_DIFFERENT_BITS = 5
LEAST_CORRELATION = 0.95  # of the small gray copies
_BANDS = MOST_DIFFERENT_BITS + 1
_BLOCK = 200_000  # pairs compared at a time
_ONES = np.array([number.bit_count() for number in range(1 << 16)], dtype=np.uint8)
_NONE = np.iinfo(np.int64).max

_Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Hashes:
    """Of N images. gradient: difference hashes. thumbnail: small gray copies. content: equal numbers for equal files.
    split: number of the split."""

    gradient: UInt64[np.ndarray, " N"]
    thumbnail: UInt8[np.ndarray, "N 16 16"]
    content: Int64[np.ndarray, " N"]
    split: Int64[np.ndarray, " N"]


@dataclass(frozen=True, slots=True)
class Similar:
    """Two images by number, first < second, and in how many bits of 64 their hashes differ."""

    first: int
    second: int
    bits: int


def similar_images(hashes: Hashes) -> tuple[list[Similar], list[Similar]]:
    """For each image the most similar earlier one of its own split, and the most similar earlier one of another.

    Files with the same content are left out: they are no near copies. At most two pairs per image, however many there
    are, so the answer does not grow with the square of a video's frames.
    """
    count = len(hashes.gradient)
    best = np.full((2, count), _NONE, dtype=np.int64)
    for first, second in _candidates(hashes):
        first, second = np.minimum(first, second), np.maximum(first, second)
        near = _really_similar(hashes, first, second)
        first, second = first[near], second[near]
        rank = different_bits(hashes.gradient[first], hashes.gradient[second]).astype(np.int64) * count + first
        other = (hashes.split[first] != hashes.split[second]).astype(np.int64)
        np.minimum.at(best, (other, second), rank)
    same, across = (_pairs(row, count) for row in best)
    return same, across


def different_bits(one: UInt64[np.ndarray, ...], other: UInt64[np.ndarray, ...]) -> UInt8[np.ndarray, ...]:
    """Number of bits in which the hashes differ."""
    differing = np.ascontiguousarray(one ^ other)
    quarters = differing.view(np.uint16).reshape(*differing.shape, 4)
    total: npt.NDArray[np.uint8] = _ONES[quarters].sum(axis=-1, dtype=np.uint8)
    return total


def _pairs(best: _Indices, count: int) -> list[Similar]:
    found = np.flatnonzero(best != _NONE)
    return [Similar(int(best[second] % count), int(second), int(best[second] // count)) for second in found]


def _really_similar(hashes: Hashes, first: _Indices, second: _Indices) -> npt.NDArray[np.bool_]:
    """Correlation, and not difference, since pictures with little on a plain ground differ little."""
    one, other = _standardized(hashes.thumbnail[first]), _standardized(hashes.thumbnail[second])
    near: npt.NDArray[np.bool_] = (one * other).sum(axis=1) >= LEAST_CORRELATION
    return near & (hashes.content[first] != hashes.content[second])


def _standardized(thumbnails: UInt8[np.ndarray, "P 16 16"]) -> Float32[np.ndarray, "P 256"]:
    """Each with mean 0 and length 1; one without any contrast is all zeros and like nothing."""
    rows = thumbnails.reshape(-1, 256).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 1.0)


def _candidates(hashes: Hashes) -> Iterator[tuple[_Indices, _Indices]]:
    """Pairs with few different bits. Of images of one split with equal hashes the first stands for all."""
    keys = np.stack([hashes.gradient, hashes.split.astype(np.uint64)], axis=1)
    _, standing, group = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    first = standing[group.reshape(-1)]
    followers = np.flatnonzero(first != np.arange(len(first)))
    for start in range(0, len(followers), _BLOCK):
        part = followers[start : start + _BLOCK]
        yield first[part], part
    for start, width in _bands():
        values = (hashes.gradient[standing] >> np.uint64(start)) & np.uint64((1 << width) - 1)
        for members in _sharing(values):
            yield from _close(hashes.gradient, standing[members])


def _bands() -> list[tuple[int, int]]:
    """(first bit, number of bits) of each band."""
    borders = [64 * band // _BANDS for band in range(_BANDS + 1)]
    return [(start, end - start) for start, end in pairwise(borders)]


def _sharing(values: npt.NDArray[np.uint64]) -> Sequence[_Indices]:
    """Groups of two or more positions that have the same value."""
    order = np.argsort(values, kind="stable")
    borders = np.flatnonzero(np.diff(values[order])) + 1
    return [group for group in np.split(order, borders) if len(group) > 1]


def _close(gradient: npt.NDArray[np.uint64], members: _Indices) -> Iterator[tuple[_Indices, _Indices]]:
    """Pairs of members that differ in few bits, a block of rows at a time."""
    rows = max(1, _BLOCK // len(members))
    for start in range(0, len(members), rows):
        block = members[start : start + rows]
        bits = different_bits(gradient[block][:, None], gradient[members][None, :])
        row, column = np.nonzero(bits <= MOST_DIFFERENT_BITS)
        later = column > row + start
        if later.any():
            yield block[row[later]], members[column[later]]
