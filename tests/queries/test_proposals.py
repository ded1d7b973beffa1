"""Proposals where only some tokens exist: the same as if the others were padding, without their cost."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from smidgen.nn.deformable_layers import DeformableDecoderLayer
from smidgen.queries.proposals import ProposalHead
from smidgen.structures import ActiveTokens, Tokens

WIDTH, SHAPES = 16, ((6, 8), (3, 4))


def tokens_of_which(index: list[list[int]], padding: list[list[bool]]) -> tuple[Tokens, Tokens]:
    """The same tokens twice: with the unnamed ones as padding, and besides with the named ones as active."""
    count = sum(rows * columns for rows, columns in SHAPES)
    active = ActiveTokens(torch.tensor(index), torch.tensor(padding))
    hidden = torch.ones(2, count, dtype=torch.bool).scatter(1, active.index, active.padding)
    content = torch.randn(2, count, WIDTH, generator=torch.Generator().manual_seed(0))
    padded = Tokens(content, torch.zeros_like(content), hidden, torch.ones(2, 2, 2), SHAPES, (4, 8))
    return padded, replace(padded, active=active)


def some_tokens() -> tuple[Tokens, Tokens]:
    return tokens_of_which(
        [[10, 3, 40, 50, 51, 52], [20, 21, 0, 55, 56, 50]], [[False] * 6, [False, False, True, False, False, False]]
    )


def test_active_tokens_propose_as_if_the_others_were_padding() -> None:
    torch.manual_seed(0)
    head = ProposalHead(WIDTH, 3)
    padded, active = (head(tokens) for tokens in some_tokens())
    assert torch.equal(active.valid, padded.valid)
    assert padded.valid.any()
    for field in ("logits", "boxes_cxcywh", "content"):
        torch.testing.assert_close(getattr(active, field), getattr(padded, field), atol=1e-6, rtol=0)


def test_tokens_that_do_not_exist_cost_no_proposal() -> None:
    head = ProposalHead(WIDTH, 3)
    padded, active = (_flops(head, tokens) for tokens in some_tokens())
    # 6 active tokens and one that speaks for all others, of 60.
    assert active * 60 == padded * 7


def _flops(head: ProposalHead, tokens: Tokens) -> int:
    with FlopCounterMode(display=False) as counter:
        head(tokens)
    return int(counter.get_total_flops())


def test_the_decoder_reads_active_values_as_if_the_others_were_padding() -> None:
    torch.manual_seed(0)
    layer = DeformableDecoderLayer(WIDTH, 4, 2, 2, 32).eval()
    torch.nn.init.normal_(layer.cross_attention.sampling_offsets.weight)
    padded, active = some_tokens()
    query, reference = torch.randn(2, 5, WIDTH), torch.rand(2, 5, 2, 4)
    answers = [
        layer(query, query, reference, tokens.content, SHAPES, tokens.padding, None, tokens.active)
        for tokens in (padded, active)
    ]
    torch.testing.assert_close(answers[1], answers[0], atol=1e-5, rtol=0)
