"""As many queries as the counted objects need: each class of counts has its number.

Huang et al., "DQ-DETR: DETR with Dynamic Query for Tiny Object Detection", ECCV 2024, section 3.4 (dynamic query
selection). The official code asks every image of a batch as many queries as the fullest one needs, so that batch mates
change the answer; here every image has its own number (per_batch=True restores the official behavior).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor, nn

from smidgen.structures import Memory, QueryBudget, evidence_of
from smidgen.tokens.object_counting import ObjectCount

PAPER_BUDGETS = (300, 500, 900, 1500)


class CountedBudget(nn.Module):
    """budgets: queries for each class of counts, fewest objects first."""

    budgets: Tensor

    def __init__(self, budgets: Sequence[int] = PAPER_BUDGETS, per_batch: bool = False) -> None:
        super().__init__()
        if not budgets or min(budgets) < 1:
            raise ValueError(f"expected a positive number of queries per class, got {budgets}; change model.budgets")
        self.per_batch, self.largest = per_batch, max(budgets)
        self.register_buffer("budgets", torch.tensor(budgets), persistent=False)

    def forward(self, memory: Memory) -> QueryBudget:
        """The budget of the most probable class of each image, in training, too."""
        classes = self._count(memory).logits.argmax(dim=1)
        classes = classes.amax(dim=0, keepdim=True).expand(len(classes)) if self.per_batch else classes
        per_image = self.budgets[classes]
        if not self._is_read(per_image):
            return QueryBudget(self.largest, per_image)
        return QueryBudget(int(per_image.max()), None if self.per_batch else per_image)

    def _is_read(self, per_image: Int[Tensor, " B"]) -> bool:
        """Whether the number of rows is read from the values. On the host a look at the largest is free and saves rows
        that no image uses; a device would have to be waited for, which only `per_batch` does; a compiled or exported
        program must have as many rows whatever it sees. What images get is the same either way.
        """
        has_values = type(per_image) is Tensor and not per_image.is_meta  # not where shapes alone are traced
        readable = self.per_batch or per_image.device.type == "cpu"
        return has_values and readable and not torch.compiler.is_compiling()

    def _count(self, memory: Memory) -> ObjectCount:
        count = evidence_of(memory.evidence, ObjectCount)
        if count is None:
            raise ValueError(
                "expected evidence of an object count, got none: give the detector an encoder with a counting stage "
                "(CountingEnhancement), or another budget"
            )
        if count.logits.shape[1] != len(self.budgets):
            raise ValueError(
                f"expected a budget for each of {count.logits.shape[1]} classes of counts, got {len(self.budgets)}; "
                "change model.budgets or model.count_thresholds"
            )
        return count
