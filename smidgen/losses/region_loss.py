"""How wrong the second stage is about the regions that were sampled for it (Ren et al., "Faster R-CNN", 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from smidgen.boxes import full_precision
from smidgen.boxes.box_coding import CoordinateWeights, encode_deltas
from smidgen.structures import DenseOutput, Target, evidence_of
from smidgen.structures.regions import RegionAnswers


@dataclass(frozen=True, kw_only=True)
class RegionLoss:
    """Softmax cross entropy over classes and background, and L1 of the deltas of the object's class where there is one;
    both are divided by the number of sampled regions, as in detectron2.

    weights: of (dx, dy, dw, dh), which make the deltas of good proposals about 1.
    """

    weights: CoordinateWeights = (10.0, 10.0, 5.0, 5.0)

    def __call__(self, output: DenseOutput, targets: Sequence[Target], progress: float) -> dict[str, Float[Tensor, ""]]:
        """ "region_classification" and "region_box"."""
        answers = evidence_of(output.evidence, RegionAnswers)
        if answers is None or answers.truth is None:
            raise ValueError("expected regions sampled for training in the output: call the model with its targets")
        count = max(len(answers.regions), 1)
        classification = F.cross_entropy(full_precision(answers.logits), answers.truth.labels, reduction="sum")
        return {"region_classification": classification / count, "region_box": self._box(answers) / count}

    def _box(self, answers: RegionAnswers) -> Float[Tensor, ""]:
        assert answers.truth is not None
        labels, regions = answers.truth.labels, answers.regions.boxes_xyxy
        rows = (labels < answers.deltas.shape[1]).nonzero()[:, 0]
        wanted = encode_deltas(regions[rows], answers.truth.boxes_xyxy[rows], self.weights)
        found = full_precision(answers.deltas[rows, labels[rows]])
        return F.l1_loss(found, wanted.to(found.dtype), reduction="sum")
