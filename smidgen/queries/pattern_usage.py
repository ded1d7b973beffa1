"""How the patterns of PaQ-DETR are used, and the same model with the most used ones only.

"PaQ-DETR", CVPR 2026 (arXiv 2603.06917), finds the best number of patterns by a sweep for each data set. Ours: the
number that a trained model uses, as the exponential of the entropy of the mean weights (Hill, "Diversity and Evenness",
Ecology 1973: the effective number, of order 1), and the surgery
that removes the rest, or splits patterns without changing what the model answers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def pattern_usage(weights: Iterable[Float[Tensor, "_ _ m"]]) -> Float[Tensor, " m"]:
    """The share of each pattern: the mean of the weights over all queries of all batches (B x Q x m each)."""
    total, rows = torch.zeros(()), 0
    for batch in weights:
        total = total + batch.sum(dim=(0, 1))
        rows += batch.shape[0] * batch.shape[1]
    if rows == 0:
        raise ValueError("expected the weights of at least one query, got none: give at least one batch of images")
    return total / rows


def weight_entropy(weights: Float[Tensor, "*rows m"]) -> Float[Tensor, "*rows"]:
    """Entropy in nats of each row of shares: 0 where one pattern has it all, log(m) where all have as much."""
    return torch.special.entr(weights).sum(dim=-1)


def effective_patterns(usage: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """How many equally used patterns would have this entropy: between 1 and m."""
    return weight_entropy(usage).exp()


def most_used(usage: Float[Tensor, " m"], count: int) -> Int[Tensor, " count"]:
    """Indices of the `count` most used patterns in ascending order, so that all of them are the identity."""
    if not 1 <= count <= len(usage):
        raise ValueError(
            f"expected to keep between 1 and {len(usage)} patterns, got {count}; change the number to keep"
        )
    return usage.argsort(descending=True, stable=True)[:count].sort().values


def keep_patterns(state: Mapping[str, Tensor], index: Sequence[int] | Int[Tensor, " kept"]) -> dict[str, Tensor]:
    """The state dict of a `PatternMixing` stage (or of a model that holds one) with these patterns only.

    It fits the same model built with as many patterns. A query's weights become those of the softmax over what is
    kept: where the others had none, nothing changes.
    """
    kept = dict(state)
    for stem in _stages(state):
        kept |= _kept_of_one_stage(state, stem, torch.as_tensor(index))
    return kept


def split_patterns(
    state: Mapping[str, Tensor],
    index: Sequence[int] | Int[Tensor, " split"],
    *,
    temperature: float = 1.0,
    noise: float = 0.1,
) -> dict[str, Tensor]:
    """The state dict with a twin behind the others for each of these patterns; it fits the model built with as many.

    Twins share their pattern's weight equally and move apart from it by opposite normal noise, so that the content of
    every query stays what it was. temperature: of the mixing's softmax. noise: in standard deviations of a fresh
    pattern.
    """
    index, grown = torch.as_tensor(index), dict(state)
    for stem in _stages(state):
        number = len(state[stem + "patterns"])
        stage = _kept_of_one_stage(state, stem, torch.cat([torch.arange(number), index]))
        both = torch.cat([index, torch.arange(number, number + len(index))])
        bias = stage[stem + "head.b" if stem + "head.b" in stage else stem + "head.fc2.bias"]
        bias.view(-1, number + len(index))[:, both] -= temperature * math.log(2)
        apart = noise * torch.randn(len(index), state[stem + "patterns"].shape[1])
        stage[stem + "patterns"][both] += torch.cat([apart, -apart]).to(bias)
        grown |= stage
    return grown


def _stages(state: Mapping[str, Tensor]) -> list[str]:
    """How the names of the stages that hold patterns begin."""
    stems = [name.removesuffix("patterns") for name in state if name == "patterns" or name.endswith(".patterns")]
    if not stems:
        raise ValueError("expected the state dict of a model with patterns, got one without: use a PaQ-DETR checkpoint")
    return stems


def _kept_of_one_stage(state: Mapping[str, Tensor], stem: str, index: Tensor) -> dict[str, Tensor]:
    patterns = state[stem + "patterns"]
    kept = {stem + "patterns": patterns[index]}
    if stem + "head.E" in state:
        kept[stem + "head.E"] = state[stem + "head.E"][index]
        kept[stem + "head.b"] = state[stem + "head.b"][:, index]
        return kept
    for name in ("head.fc2.weight", "head.fc2.bias"):
        by_pattern = state[stem + name].unflatten(0, (-1, len(patterns)))
        kept[stem + name] = by_pattern[:, index].flatten(0, 1)
    return kept
