"""Runner for PaQ-DETR's quality-aware assignment, decided on plain matrices in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from golden import Case
from numpy.typing import NDArray

from smidgen.assignment import HungarianAssignment, QualityOneToMany

COUNT_RULES = {"round": "article", "ceil": "paper"}


def run_quality_assignment(case: Case) -> None:
    config, inputs = case.config, {name: array.numpy() for name, array in case.inputs.items()}
    forced = inputs["o2o_pairs"].T if config["o2o_union"] else None
    found = _rule(config).decide(
        inputs["iou"],
        inputs["cls"],
        cost=inputs.get("cost"),
        one_to_one=None if forced is None else (forced[0], forced[1]),
    )
    case.compare("quality", torch.from_numpy(found.quality))
    case.compare("score_sum", torch.from_numpy(found.score_sum))
    case.compare("num_positives_requested", torch.from_numpy(found.positives), exact=True)
    case.compare("owner", torch.from_numpy(found.owner), exact=True)
    case.compare("pairs", torch.from_numpy(_pairs(found.owner)), exact=True)
    case.assert_all_compared()


def _rule(config: dict[str, Any]) -> QualityOneToMany:
    matched = config["o2o_union"] or config["select"] == "hungarian_copies"
    return QualityOneToMany(
        confidence_weight=config["lam"],
        num_candidates=config["k"],
        min_positives=config["N_min"],
        quality_per_positive=config["tau"],
        count_rule=COUNT_RULES[config["mode"]],
        quality="product" if config.get("quality") == "iou_x_1mc" else "difference",
        select=config["select"],
        iou_min=config["iou_min"],
        union_one_to_one=config["o2o_union"],
        costs=HungarianAssignment().costs if matched else None,
    )


def _pairs(owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """(query, object), sorted by object, then by query."""
    queries = np.flatnonzero(owner >= 0)
    order = np.lexsort((queries, owner[queries]))
    return np.stack([queries, owner[queries]], axis=1)[order]
