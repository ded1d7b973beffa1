"""Which norms alone read what a convolution said, as an example shows.

Such a norm may go into its convolution (`folded_batch_norm`) or overwrite what it reads (`frozen_batch_norm`). Which
norm follows which convolution is not guessed from names: an example passes through the network. What a network reads
in training alone, or keeps for itself, an example does not show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@torch.no_grad()
def norms_behind_convolutions(
    network: nn.Module, norms: Collection[nn.Module], example: Callable[[], Any]
) -> dict[nn.Module, nn.Conv2d]:
    """Each of `norms` that alone reads the answers of one plain convolution of `network`, with that convolution.

    example: passes an example through `network` and returns the answer.
    """
    convolutions = [module for module in network.modules() if type(module) is nn.Conv2d]
    seen = _Readers()
    with ExitStack() as hooks, seen:
        for convolution in convolutions:
            hooks.enter_context(convolution.register_forward_hook(seen.convolved))
        for norm in norms:
            hooks.enter_context(norm.register_forward_pre_hook(seen.normed))
        handed_out = {id(leaf) for leaf in tree_leaves(_contents(example()))}
    return {
        norm: seen.answer_of[place]
        for norm, places in seen.read_by.items()
        for place in places
        if len(places) == 1 and seen.is_private(place) and place not in handed_out
    }


class _Readers(TorchDispatchMode):
    """Which convolution made a tensor, which norms read it, and how many operations did in all."""

    def __init__(self) -> None:
        super().__init__()
        self.answer_of: dict[int, nn.Conv2d] = {}
        self.read_by: dict[nn.Module, list[int]] = {}
        self.operations: Counter[int] = Counter()
        self.calls: Counter[nn.Module] = Counter()
        self.alive: list[Tensor] = []  # or the next tensor may be taken for one of these

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations.update(id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        return operation(*args, **(kwargs or {}))

    def convolved(self, convolution: nn.Conv2d, _: Any, answer: Tensor) -> None:
        self.alive.append(answer)
        self.answer_of[id(answer)], self.operations[id(answer)] = convolution, 0
        self.calls[convolution] += 1

    def normed(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.alive.append(inputs[0])
        self.read_by.setdefault(norm, []).append(id(inputs[0]))

    def is_private(self, place: int) -> bool:
        """Whether a convolution that is called once said this, to one operation."""
        return place in self.answer_of and self.calls[self.answer_of[place]] == 1 and self.operations[place] == 1


def _contents(answer: Any) -> Any:
    """Tensors of a pyramid are its levels; other answers are lists or tensors."""
    return list(answer.levels) if hasattr(answer, "levels") else answer
