"""An encoder followed by ideas that work on its memory: cross-level fusion, counting, cross coding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

from torch import nn

from smidgen.structures import FeaturePyramid, Memory, Tokens


class MemoryStage(Protocol):
    """Memory (and the pyramid it was made of) to memory; evidence of the stages before it is kept."""

    def __call__(self, memory: Memory, pyramid: FeaturePyramid) -> Memory: ...


class StagedEncoder(nn.Module):
    """`encoder`, then `stages` one after the other."""

    def __init__(self, encoder: nn.Module, stages: Sequence[MemoryStage]) -> None:
        super().__init__()
        self.encoder = encoder
        self.stages = nn.ModuleList(cast("Sequence[nn.Module]", stages))

    def forward(self, tokens: Tokens, pyramid: FeaturePyramid) -> Memory:
        """The last stage's memory."""
        memory: Memory = self.encoder(tokens, pyramid)
        for stage in self.stages:
            memory = stage(memory, pyramid)
        return memory

    @property
    def checkpoint_activations(self) -> bool:
        """Whether the encoder recomputes its layers in the backward pass."""
        return bool(self.encoder.checkpoint_activations)

    @checkpoint_activations.setter
    def checkpoint_activations(self, value: bool) -> None:
        self.encoder.checkpoint_activations = value  # type: ignore[assignment]
