"""Settings that a dataset decides, where a configuration says "auto": query quotas per level and classes of counts.

DQ-DETR and LSQ-DETR tuned both by hand for AI-TOD: thresholds of 10, 100 and 500 objects, and ratios of the two finest
levels. On other data these numbers are wrong (VisDrone has 53 objects per image on average). Ours; no paper does this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

AUTO = "auto"
DERIVED = ("quotas", "count_thresholds")
CELLS_PER_SIDE = 4
LEAST_QUERIES = 20


def levels_of_objects(sides_px: npt.NDArray[np.float64], strides: Sequence[int]) -> npt.NDArray[np.int64]:
    """The level each object belongs to: the coarsest whose cells pass along its side at least 4 times, else the finest.

    sides_px: square root of area in pixels of the network input. strides: ascending pixels per cell.
    """
    least_sides_px = CELLS_PER_SIDE * np.asarray(strides[1:])
    return np.searchsorted(least_sides_px, sides_px, side="right")


def derived_quotas(
    sides_px: npt.NDArray[np.float64], strides: Sequence[int], budgets: Sequence[int]
) -> dict[int, tuple[float, ...]]:
    """For every budget of queries the share of each level, finest first; shares add up to 1.

    Shares follow how many objects belong to each level (`levels_of_objects`). A level that has any gets at least 20
    queries, or an equal part where the budget is too small for that: its few objects need some proposals to choose
    from. Raises ValueError where there is no object.
    """
    if len(sides_px) == 0:
        raise ValueError('expected objects to derive quotas from, got none; give model.quotas instead of "auto"')
    histogram = np.bincount(levels_of_objects(sides_px, strides), minlength=len(strides))
    return {budget: _shares(histogram, budget) for budget in budgets}


def derived_thresholds(
    counts: npt.NDArray[np.int64], num_classes: int, budgets: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Thresholds that put equal shares of the images into `num_classes` classes of counts, as far as ties and budgets
    allow.

    counts: objects of each image. budgets: ascending queries of each class; no threshold is above its class's budget,
    so that an image counted right has as many queries as objects unless it holds more than the largest budget. None =
    no such limit. Ascending without repetition from 1 on; class t = number of thresholds <= n. Raises ValueError where
    there is no image.
    """
    if len(counts) == 0:
        raise ValueError(
            'expected images to derive thresholds from, got none; give model.count_thresholds instead of "auto"'
        )
    quantiles = np.ceil(np.quantile(counts, np.arange(1, num_classes) / num_classes)).astype(int)
    # Rising by at least one from 1 on: the running maximum of what is left when the position is taken off.
    position = np.arange(1, num_classes)
    above = np.maximum.accumulate(np.maximum(quantiles - position, 0))
    if budgets is not None:
        limits = np.minimum.accumulate((np.asarray(budgets[:-1]) - position)[::-1])[::-1]
        above = np.minimum(above, np.maximum(limits, 0))
    return tuple(int(threshold) for threshold in above + position)


def remarks(config: Any, counts: npt.NDArray[np.int64]) -> tuple[str, ...]:
    """What a user should know about thresholds derived for this configuration: that budgets moved them, and how many
    images hold more objects than the largest budget. Empty where `count_thresholds` is not "auto".
    """
    if getattr(config, "count_thresholds", None) != AUTO:
        return ()
    budgets, found = config.budgets, []
    if derived_thresholds(counts, len(budgets)) != derived_thresholds(counts, len(budgets), budgets):
        found.append("thresholds are limited by model.budgets, classes do not hold equal shares of the images")
    over = float(np.mean(counts > max(budgets)))
    if over:
        found.append(f"{over:.1%} of the images hold more objects than the largest of model.budgets, {max(budgets)}")
    return tuple(found)


def resolved(config: Any, sides_px: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]) -> Any:
    """The configuration with every "auto" field replaced; unchanged where there is none.

    sides_px, counts: of the training images, see `derived_quotas` and `derived_thresholds`.
    """
    rules: dict[str, Callable[[], Any]] = {
        "quotas": lambda: derived_quotas(sides_px, memory_strides(config), config.budgets),
        "count_thresholds": lambda: derived_thresholds(counts, len(config.budgets), config.budgets),
    }
    changes = {field: rules[field]() for field in open_fields(config)}
    return replace(config, **changes) if changes else config


def open_fields(config: Any) -> tuple[str, ...]:
    """Names of the fields that the configuration leaves to the data."""
    return tuple(field for field in DERIVED if getattr(config, field, None) == AUTO)


def memory_strides(config: Any) -> tuple[int, ...]:
    """Pixels per cell of each memory level: the backbone's maps, then halved again until there are `num_levels`."""
    strides = list(config.backbone.strides)
    while len(strides) < config.num_levels:
        strides.append(2 * strides[-1])
    return tuple(strides[: config.num_levels])


def _shares(histogram: npt.NDArray[np.int64], budget: int) -> tuple[float, ...]:
    occupied = histogram > 0
    floor = min(LEAST_QUERIES / budget, 1 / int(occupied.sum()))
    spread = 1 - floor * occupied.sum()
    shares = np.round(occupied * floor + spread * histogram / histogram.sum(), 4)
    shares[shares.argmax()] += 1 - shares.sum()  # what rounding to readable numbers took or gave
    return tuple(round(float(share), 4) for share in shares)
