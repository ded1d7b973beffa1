"""Patterns that queries are mixed of should point in different directions.

"PaQ-DETR", CVPR 2026 (arXiv 2603.06917), diversity loss: the mean over all pairs of patterns of the modulus of their
cosine. Reports of the paper differ on the modulus; without it ("signed") the loss goes on falling beyond orthogonality,
down to -1 / (m - 1). "sq" takes squares, which are smooth at 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from smidgen.boxes import full_precision
from smidgen.queries.pattern_content import PatternWeights
from smidgen.structures import DetectorOutput, Target, evidence_of

DiversityForm: TypeAlias = Literal["abs", "signed", "sq"]


@dataclass(frozen=True, kw_only=True)
class PatternDiversity:
    """An evidence term: how alike the patterns are, once per step, named "diversity" (the paper weighs it 0.2)."""

    form: DiversityForm = "abs"

    def __call__(
        self, output: DetectorOutput, targets: Sequence[Target], progress: float
    ) -> dict[str, Float[Tensor, ""]]:
        """Nothing where the model has no patterns."""
        mixing = evidence_of(output.evidence, PatternWeights)
        return {} if mixing is None else {"diversity": pattern_similarity(mixing.patterns, self.form)}


def pattern_similarity(patterns: Float[Tensor, "m C"], form: DiversityForm = "abs") -> Float[Tensor, ""]:
    """Mean over the pairs of different patterns of their cosine, by its modulus, sign or square; 0 for one pattern.

    Of orthogonal patterns it is 0, of identical ones 1.
    """
    directions = F.normalize(full_precision(patterns), dim=1, eps=1e-12)
    cosine = directions @ directions.T
    pairs = cosine.masked_fill(torch.eye(len(patterns), dtype=torch.bool, device=patterns.device), 0.0)
    similarity = {"abs": pairs.abs, "signed": lambda: pairs, "sq": pairs.square}[form]()
    return similarity.sum() / max(1, len(patterns) * (len(patterns) - 1))
