"""Runners for PaQ-DETR's patterns: mixing, both weight heads, and its classification loss."""

from __future__ import annotations

import torch
from golden import Case
from torch import Tensor

from smidgen.losses import varifocal_loss
from smidgen.losses.pattern_diversity import pattern_similarity
from smidgen.nn.conditioned_table import DenseTable, FactorizedTable
from smidgen.nn.image_descriptor import mean_of_valid_tokens
from smidgen.queries.pattern_content import PatternContent, PatternMixing, PatternWeights, mixing_weights
from smidgen.queries.pattern_usage import effective_patterns, pattern_usage, weight_entropy
from smidgen.structures import Memory, Places, Tokens


def run_mixing(case: Case) -> None:
    weights, patterns = mixing_weights(case.inputs["logits"]), case.inputs["patterns"]
    usage = pattern_usage([weights])
    case.compare("weights", weights)
    case.compare("queries", _content(weights, patterns))
    for form in ("abs", "signed", "sq"):
        case.compare(f"div_{form}", pattern_similarity(patterns, form))
    case.compare("usage_mean", usage)
    case.compare("weight_entropy", weight_entropy(weights))
    case.compare("effective_patterns", effective_patterns(usage))
    case.assert_all_compared()


def run_weight_head(case: Case) -> None:
    inputs = case.inputs
    head = _dense(inputs) if case.config["head"] == "dense" else _factorized(inputs)
    mixing = PatternMixing(head, inputs["Z"].shape[1], num_levels=1, fusion="top_down").double()
    given = {"fc1.weight": "fc1_weight", "fc1.bias": "fc1_bias", "ln.weight": "ln_weight", "ln.bias": "ln_bias"}
    state = {name: inputs[key] for name, key in given.items()} | {"patterns": inputs["patterns"]}
    assert not mixing.load_state_dict(state, strict=False).unexpected_keys
    mixing.ln.eps = case.config["ln_eps"]
    with torch.no_grad():
        pooled = mean_of_valid_tokens(inputs["Z"].flatten(2).transpose(1, 2), inputs["mask"].flatten(1))
        case.compare("pooled", pooled)
        case.compare("hidden", mixing.hidden(pooled))
        case.compare("logits", mixing.head(mixing.hidden(pooled)))
        case.compare("weights", mixing.weights(pooled))
        case.compare("queries", _content(mixing.weights(pooled), mixing.patterns))
    case.assert_all_compared()


def run_varifocal(case: Case) -> None:
    logits, positive = case.inputs["logits"], case.inputs["onehot"]
    quality = positive * case.inputs["iou_target"][:, None]
    elementwise = varifocal_loss(logits, positive, quality)
    case.compare("elementwise", elementwise)
    # What the loss multiplies the cross entropy with.
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    case.compare("weight", elementwise / entropy)
    case.compare("loss", elementwise.sum() / case.inputs["num_boxes"])
    case.assert_all_compared()


def _dense(inputs: dict[str, Tensor]) -> DenseTable:
    num_patterns, width = inputs["patterns"].shape
    head = DenseTable(len(inputs["fc2_bias"]) // num_patterns, num_patterns, width).double()
    head.load_state_dict({"fc2.weight": inputs["fc2_weight"], "fc2.bias": inputs["fc2_bias"]})
    return head


def _factorized(inputs: dict[str, Tensor]) -> FactorizedTable:
    (num_queries, rank), (num_patterns, width) = inputs["factor_query"].shape, inputs["patterns"].shape
    head = FactorizedTable(num_queries, num_patterns, width, rank).double()
    letters = {"A": "factor_query", "E": "factor_pattern", "C": "factor_context", "b": "bias"}
    head.load_state_dict({letter: inputs[key] for letter, key in letters.items()})
    return head


def _content(weights: Tensor, patterns: Tensor) -> Tensor:
    """What the content stage makes of the evidence."""
    batch, num_queries = weights.shape[:2]
    empty = torch.zeros(batch, 0, patterns.shape[1])
    tokens = Tokens(empty, empty, torch.zeros(batch, 0, dtype=torch.bool), torch.ones(batch, 0, 2), (), ())
    memory = Memory.of(tokens, PatternWeights(weights, patterns))
    return PatternContent()(memory, Places(torch.zeros(batch, num_queries, 4)))
