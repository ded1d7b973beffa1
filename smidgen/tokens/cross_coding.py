"""Deep and shallow features gate each other: where the encoder is unsure, the decoder reads what the backbone saw.

"Cross-DINO", cross coding twice module (CCTM), equations 1 to 3. No official code exists; where the paper is silent the
choices are those that fit its parameter counts (ten matrices of 256 x 256) and its text. With E the encoder's tokens
and B the neck's maps as tokens, before any position is added, each C wide:

    E' = sigmoid(GELU(LN(FC(E))))        B' likewise        E1 = E + B (1 - E')        B1 = B + E (1 - B')
    g  = sigmoid(MLP(E1)) sigmoid(MLP(B1))                  E_cf = 2 E g + B (1 - g)

The paper prints E1 "as an example"; B1 is its counterpart. An MLP starts with a response norm (GRN, Woo et al.,
"ConvNeXt V2", CVPR 2023, in the place that Strip-MLP's authors describe). What is open is an option:

    gate             "product" as above; "joint": one MLP of E1 beside B1 makes g; "product_of_logits": the sigmoid of
                     the MLPs' product. A product of two sigmoids is about 1/4 at first, and halves E's share; the joint
                     gate is about 1/2 and keeps its scale.
    response_norm    "before" the MLP's first layer or "between" its layers, as in ConvNeXt V2
    norm_per_level   the response norm takes each level alone, in place of all levels of an image together
    proposals        from E (what the losses of the paper act on), or from E_cf

Padded tokens have no say in the norm, so that E_cf of an image does not depend on its canvas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.boxes import full_precision
from smidgen.nn.initialize import xavier_linear
from smidgen.structures import FeaturePyramid, Memory, Tokens

ResponseNormPlace = Literal["before", "between"]


@dataclass(frozen=True, slots=True)
class CrossGates:
    """Evidence of cross coding: each as tokens, so that `unflatten(level)` gives the map of a picture.

    encoder: E. backbone: B. gate: g in (0, 1), the encoder's share, token by token and channel by channel. coded: E_cf.
    """

    encoder: Tokens
    backbone: Tokens
    gate: Tokens
    coded: Tokens

    def mean_per_level(self) -> Float[Tensor, "B L"]:
        """Mean gate over channels and valid tokens of each image and level; 0 where a level shows nothing."""
        shown = ~self.gate.padding
        mean = full_precision(self.gate.content).mean(dim=-1) * shown
        spans = list(pairwise(self.gate.starts))
        totals = torch.stack([mean[:, start:stop].sum(dim=1) for start, stop in spans], dim=1)
        return totals / torch.stack([shown[:, start:stop].sum(dim=1) for start, stop in spans], dim=1).clamp(min=1)


class NormScope(NamedTuple):
    """Which tokens a response norm takes together: those that are not padding, from each start to the next."""

    padding: Bool[Tensor, "B N"]
    starts: tuple[int, ...]


class Coded(NamedTuple):
    """Cross-coded tokens, and the gate that mixed them where there is one."""

    content: Float[Tensor, "B N C"]
    gate: Float[Tensor, "B N C"] | None


class Mixing(Protocol):
    """The encoder's tokens and the backbone's to cross-coded ones."""

    def __call__(self, encoder: Tensor, backbone: Tensor, scope: NormScope) -> Coded: ...


class GateMaker(Protocol):
    """Both branches after the first step to the gate."""

    def __call__(self, encoder: Tensor, backbone: Tensor, scope: NormScope) -> Tensor: ...


class CrossCoding(nn.Module):
    """A stage on the memory: decode over tokens that `mixing` makes of the memory's and the pyramid's.

    proposals: "encoder" = proposals are read from what they were read from before; "cross" = from the coded tokens.
    norm_per_level: see the module.
    """

    def __init__(
        self, mixing: nn.Module, proposals: Literal["encoder", "cross"] = "encoder", norm_per_level: bool = False
    ) -> None:
        super().__init__()
        self.mixing, self.proposals, self.norm_per_level = mixing, proposals, norm_per_level

    def forward(self, memory: Memory, pyramid: FeaturePyramid) -> Memory:
        """Coded tokens with the evidence so far, and `CrossGates` where there is a gate."""
        encoder = memory.tokens
        backbone = _as_tokens(pyramid, encoder)
        starts = encoder.starts if self.norm_per_level else (0, encoder.starts[-1])
        content, gate = self.mixing(encoder.content, backbone.content, NormScope(encoder.padding, starts))
        coded, evidence = encoder.with_content(content), memory.evidence
        if gate is not None:
            evidence = (*evidence, CrossGates(encoder, backbone, encoder.with_content(gate), coded))
        return Memory(coded, coded if self.proposals == "cross" else memory.proposal_tokens, evidence)


class CrossGated(nn.Module):
    """Both steps. encoder_weight: of the encoder's tokens in equation 3."""

    def __init__(self, width: int, gate: nn.Module, encoder_weight: float = 2.0) -> None:
        super().__init__()
        self.mutual = MutualGating(width)
        self.gate, self.encoder_weight = gate, encoder_weight

    def forward(self, encoder: Float[Tensor, "B N C"], backbone: Float[Tensor, "B N C"], scope: NormScope) -> Coded:
        """E_cf and g."""
        gate = self.gate(*self.mutual(encoder, backbone), scope)
        return Coded(self.encoder_weight * encoder * gate + backbone * (1 - gate), gate)


class CodedOnce(nn.Module):
    """The first step alone, E_cf = E1 (table VIII's ablation)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder_gate = TokenGate(width)

    def forward(self, encoder: Float[Tensor, "B N C"], backbone: Float[Tensor, "B N C"], scope: NormScope) -> Coded:
        """E1 and E'."""
        gate = self.encoder_gate(encoder)
        return Coded(encoder + backbone * (1 - gate), gate)


class SumOfMLPs(nn.Module):
    """No gate at all, E_cf = MLP(E) + MLP(B) (table VIII's ablation)."""

    def __init__(self, width: int, response_norm: ResponseNormPlace = "before") -> None:
        super().__init__()
        self.encoder = ResponseMLP(width, 2 * width, width, response_norm)
        self.backbone = ResponseMLP(width, 2 * width, width, response_norm)

    def forward(self, encoder: Float[Tensor, "B N C"], backbone: Float[Tensor, "B N C"], scope: NormScope) -> Coded:
        """The sum."""
        return Coded(self.encoder(encoder, scope) + self.backbone(backbone, scope), None)


class MutualGating(nn.Module):
    """First step: each branch takes from the other what its own gate leaves out (equations 1 and 2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder_gate, self.backbone_gate = TokenGate(width), TokenGate(width)

    def forward(
        self, encoder: Float[Tensor, "B N C"], backbone: Float[Tensor, "B N C"]
    ) -> tuple[Float[Tensor, "B N C"], Float[Tensor, "B N C"]]:
        """E1 and B1."""
        return (
            encoder + backbone * (1 - self.encoder_gate(encoder)),
            backbone + encoder * (1 - self.backbone_gate(backbone)),
        )


class TokenGate(nn.Module):
    """sigmoid(GELU(LN(FC(x)))), hence never below 0.457."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = xavier_linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        """The gate, token by token and channel by channel."""
        return F.gelu(self.norm(self.linear(tokens))).sigmoid()


class ProductGate(nn.Module):
    """An MLP for each branch; g is the product of their sigmoids, or with of="logits" the sigmoid of their product."""

    def __init__(
        self,
        width: int,
        hidden: int,
        response_norm: ResponseNormPlace = "before",
        of: Literal["sigmoids", "logits"] = "sigmoids",
    ) -> None:
        super().__init__()
        self.encoder = ResponseMLP(width, hidden, width, response_norm)
        self.backbone = ResponseMLP(width, hidden, width, response_norm)
        self.of = of

    def forward(
        self, encoder: Float[Tensor, "B N C"], backbone: Float[Tensor, "B N C"], scope: NormScope
    ) -> Float[Tensor, "B N C"]:
        """g."""
        logits: tuple[Tensor, Tensor] = self.encoder(encoder, scope), self.backbone(backbone, scope)
        return logits[0].sigmoid() * logits[1].sigmoid() if self.of == "sigmoids" else (logits[0] * logits[1]).sigmoid()


class JointGate(nn.Module):
    """One MLP of both branches side by side; g is its sigmoid."""

    def __init__(self, width: int, hidden: int, response_norm: ResponseNormPlace = "before") -> None:
        super().__init__()
        self.mlp = ResponseMLP(2 * width, hidden, width, response_norm)

    def forward(
        self, encoder: Float[Tensor, "B N C"], backbone: Float[Tensor, "B N C"], scope: NormScope
    ) -> Float[Tensor, "B N C"]:
        """g."""
        gate: Tensor = self.mlp(torch.cat([encoder, backbone], dim=-1), scope).sigmoid()
        return gate


class ResponseMLP(nn.Module):
    """Two linear layers with GELU between, and a response norm before them or between them."""

    def __init__(self, width: int, hidden: int, width_out: int, response_norm: ResponseNormPlace = "before") -> None:
        super().__init__()
        self.response_norm_first = response_norm == "before"
        self.response_norm = ResponseNorm(width if self.response_norm_first else hidden)
        self.expand, self.project = xavier_linear(width, hidden), xavier_linear(hidden, width_out)

    def forward(self, tokens: Float[Tensor, "B N I"], scope: NormScope) -> Float[Tensor, "B N O"]:
        """The last layer's output as it is."""
        if self.response_norm_first:
            tokens = self.response_norm(tokens, scope)
        hidden = F.gelu(self.expand(tokens))
        if not self.response_norm_first:
            hidden = self.response_norm(hidden, scope)
        answer: Tensor = self.project(hidden)
        return answer


class ResponseNorm(nn.Module):
    """Global response normalization of tokens: channels that respond more than others over the image are raised.

    Woo et al., "ConvNeXt V2", 2023, equations 1 to 3, over the valid tokens of a scope. Starts as the identity.
    """

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.gamma, self.beta = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))

    def forward(self, tokens: Float[Tensor, "B N C"], scope: NormScope) -> Float[Tensor, "B N C"]:
        """gamma (x n) + beta + x, with n a channel's norm over that of the mean channel."""
        values = full_precision(tokens)
        counted = values.masked_fill(scope.padding[..., None], 0.0)
        response = [self._response(counted[:, start:stop]) for start, stop in pairwise(scope.starts)]
        share = response[0] if len(response) == 1 else _each_repeated(response, scope.starts)
        return (self.gamma * (values * share) + self.beta + values).to(tokens.dtype)

    def _response(self, counted: Float[Tensor, "B n C"]) -> Float[Tensor, "B 1 C"]:
        norm: Tensor = torch.linalg.vector_norm(counted, dim=1, keepdim=True)
        return norm / (norm.mean(dim=-1, keepdim=True) + self.eps)


def _each_repeated(response: Sequence[Float[Tensor, "B 1 C"]], starts: Sequence[int]) -> Float[Tensor, "B N C"]:
    spans = pairwise(starts)
    repeated = [each.expand(-1, stop - start, -1) for each, (start, stop) in zip(response, spans, strict=True)]
    return torch.cat(repeated, dim=1)


def _as_tokens(pyramid: FeaturePyramid, like: Tokens) -> Tokens:
    """The pyramid's maps in the order of the encoder's tokens, without positions."""
    if pyramid.shapes != like.shapes:
        raise ValueError(f"expected a pyramid with the tokens' cells {like.shapes}, got {pyramid.shapes}")
    if pyramid.levels[0].shape[1] != like.content.shape[-1]:
        raise ValueError(
            f"expected maps as wide as the tokens ({like.content.shape[-1]}), got {pyramid.levels[0].shape[1]} channels"
        )
    return like.with_content(torch.cat([level.flatten(2).transpose(1, 2) for level in pyramid.levels], dim=1))
