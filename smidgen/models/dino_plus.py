"""DINO as the Relation-DETR repository builds it ("DINO++"): heads per layer, position relation between queries.

Zhang et al., "DINO", ICLR 2023; Hou et al., "Relation DETR: Exploring Explicit Position Relation Prior for Object
Detection", ECCV 2024 (xiuqhou/Relation-DETR). Against models/dino.py: class and box heads are separate in every decoder
layer, the neck has no biases, cells are encoded with temperature 10000 and offset -0.5, and `relation` tells each
layer's self-attention how the boxes of the layer before lie to each other.

parity=True switches the same parts as in models/dino.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from smidgen.decoder.deformable_decoder import DeformableDecoder
from smidgen.decoder.position_relation import PositionRelation
from smidgen.decoder.query_position import BoxPosition
from smidgen.decoder.readout import TopScoring
from smidgen.decoder.refinement import LookForwardTwice
from smidgen.features.channel_mapper import ChannelMapper
from smidgen.losses import SetLoss
from smidgen.models.config import BackboneConfig, SetLossConfig, TransformerConfig
from smidgen.models.detr import DETR, with_parts
from smidgen.models.parts import backbone, contrastive_denoising, decoder_layer, deformable_encoder, heads, set_loss
from smidgen.nn.position_encoding import SinePosition
from smidgen.queries.budget import FixedBudget
from smidgen.queries.content import LearnedContent
from smidgen.queries.proposals import ProposalHead
from smidgen.queries.topk import TopK
from smidgen.structures import Preprocessing
from smidgen.tokens.flatten import FlattenPyramid


@dataclass(frozen=True, kw_only=True)
class DINOPlusConfig:
    """Defaults: the repository's DINO R50 (50.1 AP on COCO val after 12 epochs by its README)."""

    num_classes: int
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    num_levels: int = 4
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    num_queries: int = 900
    relation: bool = True
    denoising_queries: int = 100
    label_noise: float = 0.5
    box_noise: float = 1.0
    num_detections: int = 300
    loss: SetLossConfig = field(default_factory=SetLossConfig)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    parity: bool = False
    parts: Mapping[str, str] = field(default_factory=dict)


def dino_plus(config: DINOPlusConfig, pretrained: bool = False) -> DETR:
    """Build the network; `pretrained` asks timm for backbone weights."""
    return DETR(**with_parts(dino_plus_stages(config, pretrained), config))


def dino_plus_stages(config: DINOPlusConfig, pretrained: bool = False) -> dict[str, Any]:
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
        "selection": TopK(skip_invalid=not config.parity),
        "content": LearnedContent(config.num_queries, sizes.width),
        "denoising": contrastive_denoising(config, config.num_classes),
        "decoder": DeformableDecoder(
            decoder_layer(sizes, config.num_levels),
            sizes.decoder_layers,
            BoxPosition(sizes.width, in_canvas=config.parity),
            LookForwardTwice(*heads(sizes, config.num_classes), sizes.width, eps),
            PositionRelation(sizes.num_heads) if config.relation else None,
        ),
        "readout": TopScoring(config.num_detections, clip=not config.parity),
    }


def dino_plus_criterion(config: DINOPlusConfig) -> SetLoss:
    """As DINO's."""
    return set_loss(config.loss, log_eps=1e-6 if config.parity else 1e-8)
