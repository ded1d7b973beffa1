"""Counting learns to name the class of an image's number of objects.

Huang et al., "DQ-DETR: DETR with Dynamic Query for Tiny Object Detection", ECCV 2024, section 3.2: cross entropy over
the classes of counts. The paper's intervals are closed above (at most 10 is the first class), the released code's below
(10 belongs to the second); as everywhere the code decides. Thresholds one higher (11, 101, 501) are the paper's.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from smidgen.boxes import full_precision
from smidgen.structures import DetectorOutput, Target, evidence_of, send
from smidgen.tokens.object_counting import ObjectCount


@dataclass(frozen=True)
class ObjectCountLoss:
    """An evidence term: cross entropy of the counter's logits, averaged over the images, named "object_count"."""

    def __call__(
        self, output: DetectorOutput, targets: Sequence[Target], progress: float
    ) -> dict[str, Float[Tensor, ""]]:
        """Nothing where the model did not count. Its gradient reaches the encoder; nothing is detached."""
        count = evidence_of(output.evidence, ObjectCount)
        if count is None:
            return {}
        classes = count_classes([len(target) for target in targets], count.thresholds)
        logits = full_precision(count.logits)
        return {"object_count": F.cross_entropy(logits, send(classes, logits.device))}


def count_classes(counts: Sequence[int], thresholds: Sequence[int]) -> Int[Tensor, " B"]:
    """The class of each number of objects: how many of the ascending `thresholds` it reaches.

    Ignore regions are no objects: nobody knows how many they hold.
    """
    return torch.tensor([bisect_right(thresholds, count) for count in counts], dtype=torch.long)
