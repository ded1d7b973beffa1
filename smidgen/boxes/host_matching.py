"""What rules of assignment that decide on the host share: one copy for the batch, no NaN, pairs back on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from smidgen.structures import Matches, Predictions, Target

EXISTS, PADDED, NOT_FINITE = 0.0, 1.0, 2.0  # state of a query, in the format of the figures it travels with


def check_one_target_per_image(predictions: Predictions, targets: Sequence[Target]) -> None:
    """Raise ValueError unless every image of the predictions has its target."""
    if len(targets) != predictions.logits.shape[0]:
        raise ValueError(
            f"expected one target per image of the predictions ({predictions.logits.shape[0]}), got {len(targets)}"
        )


def copied_to_host(
    predictions: Predictions, figures: Sequence[Tensor]
) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Image by image: the indices of the queries that exist, and what was computed about all of its queries.

    Raises ValueError where an existing query's logits or box are not finite.
    """
    states, arrays = _in_one_copy(_states(predictions), figures)
    _refuse_not_finite(states)
    return [np.flatnonzero(of_image == EXISTS) for of_image in states], arrays


def collected(pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]], device: torch.device) -> Matches:
    """The (queries, objects) of every image as matches on the device."""
    image = np.repeat(np.arange(len(pairs)), [len(query) for query, _ in pairs])
    queries, targets = (np.concatenate(side) for side in zip(*pairs, strict=True))
    rows = torch.from_numpy(np.stack([image, queries, targets]).astype(np.int64)).to(device)
    return Matches(*rows.unbind())


def _states(predictions: Predictions) -> Float[Tensor, "B Q"]:
    finite = predictions.logits.isfinite().all(-1) & predictions.boxes_cxcywh.isfinite().all(-1)
    states = torch.where(finite, EXISTS, NOT_FINITE)
    return states if predictions.padding is None else states.masked_fill(predictions.padding, PADDED)


def _in_one_copy(states: Tensor, figures: Sequence[Tensor]) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    # One copy for the whole batch: each copy from a GPU waits for everything that was queued before it.
    pieces = [states.to(figures[0].dtype), *figures]
    flat = torch.cat([piece.flatten() for piece in pieces]).cpu().numpy()
    ends = np.cumsum([piece.numel() for piece in pieces])[:-1]
    arrays = [part.reshape(piece.shape) for part, piece in zip(np.split(flat, ends), pieces, strict=True)]
    return arrays[0], arrays[1:]


def _refuse_not_finite(states: NDArray[Any]) -> None:
    bad = states == NOT_FINITE
    if bad.any():
        images = np.flatnonzero(bad.any(axis=1)).tolist()
        raise ValueError(
            f"expected finite logits and boxes, got NaN or infinity in {int(bad.sum())} of {bad.size} predictions "
            f"(images {images} of the batch): the training diverged or an input was not finite; try a lower learning "
            "rate, gradient clipping or float32"
        )
