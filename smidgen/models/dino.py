"""DINO: two-stage deformable detection with contrastive denoising, mixed query selection and look-forward-twice.

Zhang et al., "DINO: DETR with Improved DeNoising Anchor Boxes for End-to-End Object Detection", ICLR 2023.
Layout of the original code (IDEA-Research/DINO): one class head and one box head shared by all decoder layers, separate
heads for proposals, position temperature 20. `dino_5scale` adds stride 4; with `sparse_finest` only its tokens near
small objects are computed.

parity=True switches to what the official code does:
    proposals      padded and border tokens compete in the selection (default: never selected)
    position       boxes are encoded in canvas coordinates, so that padding changes them (default: the image's)
    refinement     logits of boxes are clamped at 1e-3 (default 1e-5: sizes below 0.001 of the image do not saturate)
    denoising      the official number of groups (default: max(1, queries // objects))
    readout, loss  boxes are not clipped at the image; GIoU has 1e-6 in its denominators
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

from smidgen.decoder.deformable_decoder import DeformableDecoder
from smidgen.decoder.query_position import BoxPosition
from smidgen.decoder.readout import TopScoring
from smidgen.decoder.refinement import LookForwardTwice
from smidgen.features.channel_mapper import ChannelMapper
from smidgen.losses import SetLoss
from smidgen.models.config import BackboneConfig, SetLossConfig, TransformerConfig
from smidgen.models.detr import DETR, with_parts
from smidgen.models.parts import backbone, contrastive_denoising, decoder_layer, deformable_encoder, set_loss
from smidgen.models.sparse_finest import (
    SparseFinestConfig,
    check_sparse_finest,
    coarse_first_encoder,
    finest_level_terms,
    joined_encoder,
)
from smidgen.nn.initialize import box_head, class_head
from smidgen.nn.position_encoding import SinePosition
from smidgen.queries.budget import FixedBudget
from smidgen.queries.content import LearnedContent
from smidgen.queries.proposals import ProposalHead
from smidgen.queries.topk import TopK
from smidgen.structures import Preprocessing
from smidgen.tokens.flatten import FlattenPyramid


@dataclass(frozen=True, kw_only=True)
class DINOConfig:
    """Defaults: DINO 4-scale, R50 (paper, table 1). `parts` names registered parts that replace stages.

    sparse_finest: compute only a share of the finest level, which must have stride 4; None = all of it.
    label_rows: rows of the denoising label table, None = num_classes + 1. Official files that were fine-tuned on fewer
    classes keep the table of more.
    """

    num_classes: int
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    num_levels: int = 4
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    num_queries: int = 900
    temperature: float = 20.0
    denoising_queries: int = 100
    label_rows: int | None = None
    label_noise: float = 0.5
    box_noise: float = 1.0
    num_detections: int = 300
    sparse_finest: SparseFinestConfig | None = None
    loss: SetLossConfig = field(default_factory=SetLossConfig)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    parity: bool = False
    parts: Mapping[str, str] = field(default_factory=dict)


def dino(config: DINOConfig, pretrained: bool = False) -> DETR:
    """Build the network; `pretrained` asks timm for backbone weights."""
    sizes, eps = config.transformer, 1e-3 if config.parity else 1e-5
    body = backbone(config.backbone, pretrained)
    stages = {
        "preprocessing": config.preprocessing,
        "backbone": body,
        "neck": ChannelMapper(body.channels, sizes.width, config.num_levels),
        "flatten": FlattenPyramid(sizes.width, config.num_levels, SinePosition(sizes.width, config.temperature)),
        "encoder": _encoder(config),
        "proposals": ProposalHead(sizes.width, config.num_classes),
        "budget": FixedBudget(config.num_queries),
        "selection": TopK(skip_invalid=not config.parity),
        "content": LearnedContent(config.num_queries, sizes.width),
        "denoising": contrastive_denoising(config, config.label_rows or config.num_classes + 1, groups="official"),
        "decoder": DeformableDecoder(
            decoder_layer(sizes, config.num_levels),
            sizes.decoder_layers,
            BoxPosition(sizes.width, in_canvas=config.parity),
            LookForwardTwice([class_head(sizes.width, config.num_classes)], [box_head(sizes.width)], sizes.width, eps),
        ),
        "readout": TopScoring(config.num_detections, clip=not config.parity),
    }
    return DETR(**with_parts(stages, config))


def _encoder(config: DINOConfig) -> nn.Module:
    check_sparse_finest(config)
    if config.sparse_finest is None:
        return deformable_encoder(config.transformer, config.num_levels)
    if not config.sparse_finest.own_layers:
        return joined_encoder(config)
    coarse = deformable_encoder(config.transformer, config.num_levels - 1)
    return coarse_first_encoder(config, coarse, config.sparse_finest.own_layers)


def dino_criterion(config: DINOConfig) -> SetLoss:
    """Focal, L1 and GIoU losses on final, auxiliary, proposal and denoising outputs; that of a sparse finest level."""
    giou_eps = 1e-6 if config.parity else 0.0
    return set_loss(config.loss, giou_eps=giou_eps, evidence_terms=finest_level_terms(config))
