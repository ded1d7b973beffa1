"""Rules of assignment that decide on the host: all sets of a training step cross over in one copy and come back in one.

Each copy from a GPU waits for everything that was queued before it. So a rule of this kind says in two parts what it
does: on the device it computes figures about all pairs of queries and objects, on the host it decides by them. What
the sets of a step ask is brought together here. Sets that share rule and targets (decoder layers, say) are figured out
as one set with more queries. On the host every image of every set is a problem of its own, and as many are solved at a
time as torch may use threads (`OMP_NUM_THREADS`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Protocol, TypeAlias, TypeGuard, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from smidgen.structures import Matches, Predictions, Target, send

Pairs: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Queries and, row by row, the objects that they answer for."""

EXISTS, PADDED, NOT_FINITE = 0.0, 1.0, 2.0  # state of a query, in the format of the figures it travels with
PAIRS_WORTH_THREADS = 2**16  # below this a problem is solved sooner than a thread is started


@runtime_checkable
class HostRule(Protocol):
    """A rule of assignment in two parts."""

    def figures(self, predictions: Predictions, targets: Sequence[Target]) -> list[Tensor]:
        """Of each image what the decision needs, "F Q M" on the device. A query's figures depend on no other query."""

    def pairs(self, figures: NDArray[Any]) -> Pairs:
        """Who answers for whom in one image, by the figures of the queries that exist; sorted by query."""


def decides_on_host(rule: object) -> TypeGuard[HostRule]:
    """Whether the rule can be asked together with others."""
    return isinstance(rule, HostRule)


@dataclass(frozen=True, slots=True)
class MatchRequest:
    """One set to be matched. Requests with the very same rule and targets share their computation."""

    rule: HostRule
    predictions: Predictions
    targets: Sequence[Target]


@dataclass(frozen=True, slots=True)
class ImageFigures:
    """About one image of one set: the indices of the queries that exist, and the figures about these."""

    existing: NDArray[np.int64]
    figures: NDArray[Any]


@torch.no_grad()
def match_together(requests: Sequence[MatchRequest]) -> list[Matches]:
    """Pairs of every set, image by image and sorted by query, with one copy from the device for all.

    Raises ValueError where an existing query's logits or box are not finite.
    """
    if not requests:
        return []
    figures = figures_on_host(requests)
    problems = [(request.rule, image) for request, images in zip(requests, figures, strict=True) for image in images]
    solved = iter(_solved(problems))
    pairs = [[next(solved) for _ in images] for images in figures]
    return _matches(pairs, requests[0].predictions.logits.device)


@torch.no_grad()
def figures_on_host(requests: Sequence[MatchRequest]) -> list[list[ImageFigures]]:
    """Of every set its images' figures. Raises ValueError as `match_together`."""
    groups = _groups(requests)
    pieces = [piece for group in groups for piece in _pieces([requests[index] for index in group])]
    copied = iter(_copied_to_host(pieces))
    found: dict[int, list[ImageFigures]] = {}
    for group in groups:
        states, figures = next(copied), [next(copied) for _ in requests[group[0]].targets]
        ends = accumulate((requests[index].predictions.logits.shape[1] for index in group), initial=0)
        for index, (start, stop) in zip(group, pairwise(ends), strict=True):
            found[index] = _of_set(states[:, start:stop], [image[:, start:stop] for image in figures])
    return [found[index] for index in range(len(requests))]


def _groups(requests: Sequence[MatchRequest]) -> list[list[int]]:
    """Indices of the requests that can be figured out as one."""
    groups: dict[tuple[int, int, int], list[int]] = {}
    for index, request in enumerate(requests):
        _check_one_target_per_image(request.predictions, request.targets)
        key = id(request.rule), id(request.targets), request.predictions.logits.shape[2]
        groups.setdefault(key, []).append(index)
    return list(groups.values())


def _pieces(group: Sequence[MatchRequest]) -> list[Tensor]:
    """The states of the group's queries, and each image's figures about them."""
    predictions = _side_by_side([request.predictions for request in group])
    return [_states(predictions), *group[0].rule.figures(predictions, group[0].targets)]


def _side_by_side(sets: Sequence[Predictions]) -> Predictions:
    """The queries of all sets as those of one."""
    if len(sets) == 1:
        return sets[0]
    padding = [
        torch.zeros_like(each.logits[..., 0], dtype=torch.bool) if each.padding is None else each.padding
        for each in sets
    ]
    logits, boxes = [each.logits for each in sets], [each.boxes_cxcywh for each in sets]
    return Predictions(torch.cat(logits, dim=1), torch.cat(boxes, dim=1), torch.cat(padding, dim=1))


def _states(predictions: Predictions) -> Float[Tensor, "B Q"]:
    finite = predictions.logits.isfinite().all(-1) & predictions.boxes_cxcywh.isfinite().all(-1)
    states = torch.where(finite, EXISTS, NOT_FINITE)
    return states if predictions.padding is None else states.masked_fill(predictions.padding, PADDED)


def _copied_to_host(pieces: Sequence[Tensor]) -> list[NDArray[Any]]:
    if all(piece.device.type == "cpu" for piece in pieces):
        return [piece.numpy() for piece in pieces]
    flat = torch.cat([piece.flatten() for piece in pieces]).cpu().numpy()
    ends = np.cumsum([piece.numel() for piece in pieces])[:-1]
    return [part.reshape(piece.shape) for part, piece in zip(np.split(flat, ends), pieces, strict=True)]


def _of_set(states: NDArray[Any], figures: Sequence[NDArray[Any]]) -> list[ImageFigures]:
    _refuse_not_finite(states)
    images = []
    for of_image, numbers in zip(states, figures, strict=True):
        existing = np.flatnonzero(of_image == EXISTS)
        everybody = len(existing) == len(of_image)  # as nearly always: nothing has to be copied
        images.append(ImageFigures(existing, numbers if everybody else numbers[:, existing]))
    return images


def _solved(problems: Sequence[tuple[HostRule, ImageFigures]]) -> list[Pairs]:
    """In the order of the problems."""
    largest = max((image.figures.size for _, image in problems), default=0)
    threads = min(len(problems), torch.get_num_threads(), os.cpu_count() or 1)
    if threads == 1 or largest < PAIRS_WORTH_THREADS:
        return [_solve(*problem) for problem in problems]
    with ThreadPoolExecutor(threads) as pool:  # scipy lets other threads run while it works
        return list(pool.map(_solve, *zip(*problems, strict=True)))


def _solve(rule: HostRule, image: ImageFigures) -> Pairs:
    queries, objects = rule.pairs(image.figures)
    return image.existing[queries], objects


def _matches(pairs: Sequence[Sequence[Pairs]], device: torch.device) -> list[Matches]:
    """The pairs of all images of all sets as matches on the device, by one copy."""
    rows = [_rows(of_set) for of_set in pairs]
    on_device = send(torch.from_numpy(np.concatenate(rows, axis=1)), device)
    return [Matches(*part.unbind()) for part in on_device.split([part.shape[1] for part in rows], dim=1)]


def _rows(pairs: Sequence[Pairs]) -> NDArray[np.int64]:
    """Image, query and object of each pair of one set."""
    image = np.repeat(np.arange(len(pairs)), [len(queries) for queries, _ in pairs])
    queries, objects = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return np.stack([image, queries, objects]).astype(np.int64)


def _check_one_target_per_image(predictions: Predictions, targets: Sequence[Target]) -> None:
    if len(targets) != predictions.logits.shape[0]:
        raise ValueError(
            f"expected one target per image of the predictions ({predictions.logits.shape[0]}), got {len(targets)}"
        )


def _refuse_not_finite(states: NDArray[Any]) -> None:
    bad = states == NOT_FINITE
    if bad.any():
        images = np.flatnonzero(bad.any(axis=1)).tolist()
        raise ValueError(
            f"expected finite logits and boxes, got NaN or infinity in {int(bad.sum())} of {bad.size} predictions "
            f"(images {images} of the batch): the training diverged or an input was not finite; try a lower learning "
            "rate, gradient clipping or float32"
        )
