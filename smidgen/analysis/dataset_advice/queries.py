"""How many queries and detections, and on which levels the queries should start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from smidgen.analysis.dataset_advice.advice import Advice, Choice, first_good, percent
from smidgen.data.statistics.limits import bound_per_image, bound_per_image_and_class, bound_per_level
from smidgen.data.statistics.object_table import ObjectTable
from smidgen.models.derived_settings import derived_quotas, derived_thresholds, levels_of_objects
from smidgen.queries.counted_budget import PAPER_BUDGETS
from smidgen.queries.stratified_topk import PAPER_QUOTAS

ROOM = 3
LIMITS = (100, 300, 500, 900, 1500)
STRIDES = (4, 8, 16, 32, 64)
"""Levels of LSQ-DETR."""
Shares = Mapping[int, Sequence[float]]


def budget_advice(table: ObjectTable) -> Advice:
    """Queries of an image, and what detection limits of protocols let through."""
    counts = table.counts
    choices = tuple(
        Choice(
            f"{limit} queries",
            bound_per_image(table, limit),
            (
                f"{int((counts > limit).sum()):,}",
                percent(bound_per_image_and_class(table, limit)),
                percent(bound_per_image(table, limit // ROOM)),
            ),
            (f"model.num_queries={limit}", f"model.num_detections={limit}"),
        )
        for limit in LIMITS
    )
    chosen = first_good([bound_per_image(table, limit // ROOM) for limit in LIMITS])
    return Advice(
        "budget",
        "Queries and detections per image",
        "A query finds one object, so N queries or detections find at most N objects of an image. The same numbers are "
        "detection limits of protocols: VisDrone's toolkit keeps 500 of an image, COCO keeps 100 and AI-TOD 1500 of an "
        f"image and class. Rule of thumb for the advice: {ROOM} queries for each object, since they also compete for "
        "it and some start badly.",
        ("images with more", "bound per image and class", f"{ROOM} queries for each object"),
        choices,
        chosen,
        f"The fullest image holds {int(counts.max())} objects; {LIMITS[chosen]} queries can find "
        f"{percent(choices[chosen].bound)} of all objects.",
        "dino_r50",
    )


def level_advice(seen: ObjectTable) -> Advice:
    """Shares of LSQ-DETR's levels. seen: in pixels of the network input."""
    sides_px, counts = seen.sides_px, seen.counts
    thresholds = derived_thresholds(counts, len(PAPER_BUDGETS), PAPER_BUDGETS)
    automatic = derived_quotas(sides_px, STRIDES, PAPER_BUDGETS)
    tables: dict[str, tuple[Shares, tuple[str, ...]]] = {
        "auto": (automatic, ("model.quotas=auto",)),
        "paper": (PAPER_QUOTAS, ("model.quotas=paper",)),
        "equal shares": (_equal(), (f"model.quotas={_written(_equal())}",)),
    }
    levels, budgets = levels_of_objects(sides_px, STRIDES), _budgets(counts, thresholds)
    choices = tuple(
        Choice(
            name,
            bound_per_level(seen, levels, _limits(shares, budgets)),
            tuple(percent(float(share)) for share in _mean_shares(shares, budgets)),
            ("model.count_thresholds=auto", *settings),
        )
        for name, (shares, settings) in tables.items()
    )
    chosen = first_good([choice.bound for choice in choices])
    return Advice(
        "quotas",
        "Queries of each level (LSQ-DETR)",
        "An object belongs to the coarsest level whose cells pass along its side at least 4 times, else to the finest; "
        "the bound is the share of objects for which its level has a query. Images have 300, 500, 900 or 1500 queries "
        f"by their number of objects; thresholds that share the images out are {', '.join(map(str, thresholds))}. "
        "Quotas that a level cannot use go to the others, so the truth is often better. Columns: share of the queries "
        "that start on each level.",
        tuple(f"at stride {stride}" for stride in STRIDES),
        choices,
        chosen,
        f"Take {choices[chosen].name}. Of the objects, {_of_levels(levels)}. What auto derives, to be copied and "
        f"changed: --set 'model.quotas={_written(automatic)}'",
        "lsq_detr_r50",
    )


def _of_levels(levels: NDArray[np.int64]) -> str:
    """The share of the objects on every level that has any, in words."""
    shares = np.bincount(levels, minlength=len(STRIDES)) / len(levels)
    return ", ".join(
        f"{percent(float(share))} belong to stride {stride}"
        for share, stride in zip(shares, STRIDES, strict=True)
        if share
    )


def _equal() -> Shares:
    return {budget: (1 / len(STRIDES),) * len(STRIDES) for budget in PAPER_BUDGETS}


def _budgets(counts: NDArray[np.int64], thresholds: Sequence[int]) -> NDArray[np.int64]:
    """Queries of each image whose objects are counted right."""
    return np.asarray(PAPER_BUDGETS)[np.searchsorted(thresholds, counts, side="right")]


def _limits(shares: Shares, budgets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Queries of each image on each level; levels that are not named have none."""
    rows = {budget: np.floor(np.array(row) * budget + 1e-6) for budget, row in shares.items()}
    padded = {budget: np.pad(row, (0, len(STRIDES) - len(row))) for budget, row in rows.items()}
    return np.array([padded[int(budget)] for budget in budgets]).reshape(-1, len(STRIDES))


def _mean_shares(shares: Shares, budgets: NDArray[np.int64]) -> NDArray[np.float64]:
    limits = _limits(shares, budgets).sum(axis=0)
    return np.asarray(limits / limits.sum())


def _written(shares: Shares) -> str:
    rows = (f"{budget}: [{', '.join(f'{share:g}' for share in row)}]" for budget, row in shares.items())
    return "{" + ", ".join(rows) + "}"
