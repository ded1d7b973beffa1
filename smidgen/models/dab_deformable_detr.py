"""DAB-Deformable DETR: queries are boxes, encoded anew in each layer and modulated by their content.

Liu et al., "DAB-DETR: Dynamic Anchor Boxes are Better Queries for DETR", ICLR 2022; two-stage deformable form of the
Relation-DETR repository. Against models/deformable_detr.py: content is the proposal's own feature, positions follow the
box, proposals are trained on the true classes, and `relation` biases self-attention.

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
from smidgen.decoder.refinement import IterativeRefinement
from smidgen.features.channel_mapper import ChannelMapper
from smidgen.losses import SetLoss
from smidgen.models.config import BackboneConfig, SetLossConfig, TransformerConfig
from smidgen.models.detr import DETR, with_parts
from smidgen.models.parts import backbone, decoder_layer, deformable_encoder, heads, set_loss
from smidgen.nn.position_encoding import SinePosition
from smidgen.queries.budget import FixedBudget
from smidgen.queries.content import PlaceContent
from smidgen.queries.proposals import ProposalHead
from smidgen.queries.topk import TopK
from smidgen.structures import Preprocessing
from smidgen.tokens.flatten import FlattenPyramid


@dataclass(frozen=True, kw_only=True)
class DABDeformableDETRConfig:
    """Defaults: the Relation-DETR repository's R50 (48.3 AP on COCO val after 12 epochs by its README)."""

    num_classes: int
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    num_levels: int = 4
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    num_queries: int = 300
    relation: bool = True
    num_detections: int = 300
    loss: SetLossConfig = field(default_factory=SetLossConfig)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    parity: bool = False
    parts: Mapping[str, str] = field(default_factory=dict)


def dab_deformable_detr(config: DABDeformableDETRConfig, pretrained: bool = False) -> DETR:
    """Build the network; `pretrained` asks timm for backbone weights."""
    return DETR(**with_parts(dab_deformable_detr_stages(config, pretrained), config))


def dab_deformable_detr_stages(config: DABDeformableDETRConfig, pretrained: bool = False) -> dict[str, Any]:
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
        "content": PlaceContent(detach=True),
        "decoder": DeformableDecoder(
            decoder_layer(sizes, config.num_levels),
            sizes.decoder_layers,
            BoxPosition(sizes.width, scale=True, in_canvas=config.parity),
            IterativeRefinement(*heads(sizes, config.num_classes), eps),
            PositionRelation(sizes.num_heads) if config.relation else None,
        ),
        "readout": TopScoring(config.num_detections, clip=not config.parity),
    }


def dab_deformable_detr_criterion(config: DABDeformableDETRConfig) -> SetLoss:
    """Focal, L1 and GIoU losses on final, auxiliary and proposal outputs."""
    return set_loss(config.loss, log_eps=1e-6 if config.parity else 1e-8)
