"""Deformable DETR: sparse sampling instead of dense attention; in one stage from learned points, or in two.

Zhu et al., "Deformable DETR: Deformable Transformers for End-to-End Object Detection", ICLR 2021.
`deformable_detr_one_stage` and `_refine` follow the original code (transformers' DeformableDetr is the same network);
`deformable_detr` is the two-stage form of the Relation-DETR repository: proposals are trained as object / no object on
class 0 over all tokens, and the position of a query is fixed by its first box.

parity=True switches to what the official codes do:
    proposals      padded and border tokens compete in the selection and are supervised (default: neither)
    refinement     logits of boxes are clamped at 1e-3 in two stages (default 1e-5, as in one stage)
    readout        boxes are not clipped at the image

The Relation-DETR repository also computes a position relation here and never applies it; its weights are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from smidgen.decoder.deformable_decoder import DeformableDecoder
from smidgen.decoder.query_position import InitialBoxPosition, LearnedPosition
from smidgen.decoder.readout import TopScoring
from smidgen.decoder.refinement import FixedReference, IterativeRefinement
from smidgen.features.channel_mapper import ChannelMapper
from smidgen.losses import SetLoss
from smidgen.models.config import BackboneConfig, SetLossConfig, TransformerConfig
from smidgen.models.detr import DETR, with_parts
from smidgen.models.parts import backbone, decoder_layer, deformable_encoder, heads, set_loss
from smidgen.nn.initialize import box_head, class_head
from smidgen.nn.position_encoding import SinePosition
from smidgen.queries.budget import FixedBudget
from smidgen.queries.content import PlaceContent, SineContent
from smidgen.queries.learned_queries import LearnedPoints
from smidgen.queries.proposals import ProposalHead
from smidgen.queries.topk import TopK
from smidgen.structures import Preprocessing
from smidgen.tokens.flatten import FlattenPyramid


@dataclass(frozen=True, kw_only=True)
class OneStageConfig:
    """Defaults: the original code's R50 (paper, table 1; feed-forward width 1024, dropout 0.1). refine: boxes move
    layer by layer.
    """

    num_classes: int
    refine: bool = False
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    num_levels: int = 4
    transformer: TransformerConfig = field(default_factory=lambda: TransformerConfig(feed_forward=1024, dropout=0.1))
    num_queries: int = 300
    num_detections: int = 100
    loss: SetLossConfig = field(default_factory=lambda: SetLossConfig(classification=2.0))
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    parity: bool = False
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TwoStageConfig:
    """Defaults: the Relation-DETR repository's R50 without relation."""

    num_classes: int
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    num_levels: int = 4
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    num_queries: int = 300
    num_detections: int = 300
    loss: SetLossConfig = field(default_factory=SetLossConfig)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    parity: bool = False
    parts: Mapping[str, str] = field(default_factory=dict)


def one_stage(config: OneStageConfig, pretrained: bool = False) -> DETR:
    """Queries start at learned points; `pretrained` asks timm for backbone weights."""
    sizes = config.transformer
    body = backbone(config.backbone, pretrained)
    refinement: nn.Module
    if config.refine:
        refinement = IterativeRefinement(*heads(sizes, config.num_classes, size_bias=-2.0))
    else:
        refinement = FixedReference(class_head(sizes.width, config.num_classes), box_head(sizes.width, size_bias=-2.0))
    stages = {
        "preprocessing": config.preprocessing,
        "backbone": body,
        "neck": ChannelMapper(body.channels, sizes.width, config.num_levels),
        "flatten": FlattenPyramid(sizes.width, config.num_levels, SinePosition(sizes.width, 10000.0, -0.5)),
        "encoder": deformable_encoder(sizes, config.num_levels),
        "budget": FixedBudget(config.num_queries),
        "selection": LearnedPoints(config.num_queries, sizes.width),
        "content": PlaceContent(detach=False),
        "decoder": DeformableDecoder(
            decoder_layer(sizes, config.num_levels), sizes.decoder_layers, LearnedPosition(), refinement
        ),
        "readout": TopScoring(config.num_detections, clip=not config.parity),
    }
    return DETR(**with_parts(stages, config))


def two_stage(config: TwoStageConfig, pretrained: bool = False) -> DETR:
    """Queries start at the proposals that look most like an object."""
    return DETR(**with_parts(two_stage_stages(config, pretrained), config))


def two_stage_stages(config: TwoStageConfig, pretrained: bool = False) -> dict[str, Any]:
    """The parts by stage, so that another system can say what it does differently."""
    sizes, eps = config.transformer, 1e-3 if config.parity else 1e-5
    body = backbone(config.backbone, pretrained)
    position = SinePosition(sizes.width, temperature=10000.0, offset=-0.5)
    return {
        "preprocessing": config.preprocessing,
        "backbone": body,
        "neck": ChannelMapper(body.channels, sizes.width, config.num_levels, bias=False),
        "flatten": FlattenPyramid(sizes.width, config.num_levels, position),
        "encoder": deformable_encoder(sizes, config.num_levels),
        "proposals": ProposalHead(sizes.width, config.num_classes),
        "budget": FixedBudget(config.num_queries),
        "selection": TopK(score="first", supervise="all", skip_invalid=not config.parity),
        "content": SineContent(sizes.width),
        "decoder": DeformableDecoder(
            decoder_layer(sizes, config.num_levels),
            sizes.decoder_layers,
            InitialBoxPosition(sizes.width),
            IterativeRefinement(*heads(sizes, config.num_classes), eps),
        ),
        "readout": TopScoring(config.num_detections, clip=not config.parity),
    }


def one_stage_criterion(config: OneStageConfig) -> SetLoss:
    """Focal, L1 and GIoU losses on final and auxiliary outputs."""
    return set_loss(config.loss)


def two_stage_criterion(config: TwoStageConfig) -> SetLoss:
    """As in one stage, and on every token's proposal as object / no object."""
    return set_loss(config.loss, log_eps=1e-6 if config.parity else 1e-8, binary_proposals=True)
