"""Batches of a model that mixes patterns, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from observation_cases import observation

from smidgen.analysis.observation import Observation
from smidgen.queries.pattern_content import PatternWeights
from smidgen.structures import Target

OBJECT = [8.0, 8.0, 24.0, 24.0]
SHIFTED = [10.0, 8.0, 26.0, 24.0]  # IoU 0.78 with OBJECT
ELSEWHERE = [40.0, 40.0, 60.0, 60.0]


def mixed(
    weights: Sequence[Sequence[float]], scores: Sequence[Sequence[float]], labels: Sequence[int] = (0,)
) -> Observation:
    """Image 0 has an OBJECT of each label, image 1 none. Both have the rows OBJECT, SHIFTED, ELSEWHERE and one of
    padding; weights may have more rows. scores: query x class."""
    found = observation(
        boxes=[OBJECT] * len(labels),
        query_tokens=range(4),
        query_boxes=[OBJECT, SHIFTED, ELSEWHERE, OBJECT],
        query_padding=[False, False, False, True],
    )
    final = replace(found.output.final, logits=torch.tensor(scores).logit().expand(2, -1, -1))
    rows = torch.tensor(weights)
    evidence = (PatternWeights(rows.expand(2, -1, -1), torch.zeros(rows.shape[1], 8)),)
    first = found.targets[0]
    labeled = Target.of(first.boxes_xyxy, torch.tensor(labels, dtype=torch.long), first.size_hw)
    output = replace(found.output, final=final, evidence=evidence)
    return replace(found, output=output, targets=(labeled, found.targets[1]))
