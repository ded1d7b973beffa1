"""Sizes that every DETR-family system has: its backbone and its transformer. Defaults are those of the papers (R50)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """name, options: of timm; the name's tag chooses the pretrained weights (torchvision's first ones, as DINO's code
    has them; "tv2_in1k" are its second). strides: pixels per cell of the maps that are read, finest first.

    norm: "frozen" (fixed batch norms; needs pretrained weights to be trained), "batch" or "group".
    frozen_stages: stages without gradient when norm is "frozen" (2 = stem and first stage).
    """

    name: str = "resnet50.tv_in1k"
    strides: tuple[int, ...] = (8, 16, 32)
    norm: Literal["frozen", "batch", "group"] = "frozen"
    frozen_stages: int = 2
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """width: channels of every token and query. num_points: samples per head and level. feed_forward: hidden
    channels.
    """

    width: int = 256
    num_heads: int = 8
    num_points: int = 4
    feed_forward: int = 2048
    encoder_layers: int = 6
    decoder_layers: int = 6
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SetLossConfig:
    """Weights of the loss terms and of the matching cost (class : L1 : GIoU), DINO's by default.

    Changes speed only: solver, "scipy" or the name of a `smidgen.assignment.register_solver`.
    """

    classification: float = 1.0
    l1: float = 5.0
    giou: float = 2.0
    cost_classification: float = 2.0
    cost_l1: float = 5.0
    cost_giou: float = 2.0
    solver: str = "scipy"
