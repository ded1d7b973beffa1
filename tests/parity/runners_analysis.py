"""Runners for PaQ-DETR's analysis of query activation: Gini and Pareto share of counts, counts of active queries."""

from __future__ import annotations

import torch
from golden import Case
from torch import Tensor

from smidgen.analysis.query_activation import active_by_score, gini, pareto_share


def run_gini(case: Case) -> None:
    for name, counts in case.inputs.items():
        _compare_inequality(case, counts, f"{name}_")
    case.assert_all_compared()


def run_activation_count(case: Case) -> None:
    active = active_by_score(case.inputs["probs"], case.inputs["threshold"].item())
    counts = active.sum(dim=0)
    case.compare("counts", counts, exact=True)
    _compare_inequality(case, counts, "")
    case.assert_all_compared()


def _compare_inequality(case: Case, counts: Tensor, prefix: str) -> None:
    case.compare(f"{prefix}gini", torch.tensor(gini(counts.numpy())))
    case.compare(f"{prefix}pareto20", torch.tensor(pareto_share(counts.numpy())))
