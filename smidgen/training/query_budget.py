"""Images with more objects than the model can answer: said before training, since no training mends it."""

from __future__ import annotations

from collections.abc import Sequence


def query_budget_warning(object_counts: Sequence[int], num_queries: int | None) -> str | None:
    """A warning with the share of images that hold more objects than queries and the largest count; None where none do.

    object_counts: labeled objects of each image. num_queries: of the model; None where it has no such limit.
    """
    largest = max(object_counts, default=0)
    if num_queries is None or largest <= num_queries:
        return None
    over = sum(count > num_queries for count in object_counts)
    return (
        f"Warning: {over} of {len(object_counts)} images ({over / len(object_counts):.1%}) hold more objects than the "
        f"model's {num_queries} queries; the fullest has {largest}. The rest of their objects cannot be found: raise "
        f"--set model.num_queries, or train on crops"
    )
