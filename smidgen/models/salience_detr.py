"""Salience DETR: the encoder refines salient tokens only, levels are fused, and neighboring queries are suppressed.

Hou et al., "Salience DETR: Enhancing Detection Transformer with Hierarchical Salience Filtering Refinement", CVPR 2024
(xiuqhou/Salience-DETR). Against models/dino_plus.py, without its position relation: a filtered encoder that shares the
proposals' projection and class head, cross-level fusion behind it, suppression among neighboring tokens in the query
selection, class scores that are taught the IoU, and the salience loss.

parity=True switches to what the official code does:
    salience       the mean feature and the enlarged map see padding; every image keeps as many tokens as the fullest
                   one of the batch and attends from surplus and padded ones, too (default: each image its own)
    fusion         convolutions and gates read padded cells (default: zeros, left out)
    selection      padded and border tokens compete; the batch is cut to the image with fewest survivors (default:
                   never selected; the best suppressed tokens fill up)
    position, refinement, denoising, readout    as in models/dino.py
    loss           padded cells are taught to be background (default: left out); 1e-6 in the class cost's logarithms;
                   salience is divided by one process's cells (default: the mean over processes)

Where paper and code differ the default is the code's; the paper's reading is an option: level_limits_px=None,
salience_confidence="paper", values="refined", densely_attended=0.

With `sparse_finest` the filtered encoder and the fusion work on the levels from stride 8 on, as in the 4-scale network;
chosen tokens of stride 4 are refined by layers of their own, reading what came out of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from torch import nn

from smidgen.decoder.deformable_decoder import DeformableDecoder
from smidgen.decoder.query_position import BoxPosition
from smidgen.decoder.readout import TopScoring
from smidgen.decoder.refinement import LookForwardTwice
from smidgen.features.channel_mapper import ChannelMapper
from smidgen.losses import SetLoss, VarifocalClassification
from smidgen.losses.salience import OFFICIAL_LIMITS_PX, SalienceLoss
from smidgen.models.config import BackboneConfig, SetLossConfig, TransformerConfig
from smidgen.models.detr import DETR, with_parts
from smidgen.models.parts import backbone, contrastive_denoising, decoder_layer, encoder_layer, heads, set_loss
from smidgen.models.sparse_finest import (
    SparseFinestConfig,
    check_sparse_finest,
    coarse_first_encoder,
    finest_level_terms,
)
from smidgen.nn.position_encoding import SinePosition
from smidgen.queries.budget import FixedBudget
from smidgen.queries.content import LearnedContent
from smidgen.queries.proposals import ProposalHead
from smidgen.queries.suppressed_topk import SuppressedTopK
from smidgen.structures import Preprocessing
from smidgen.tokens.background_embedding import BackgroundEmbedding
from smidgen.tokens.cross_level_fusion import CrossLevelFusion
from smidgen.tokens.flatten import FlattenPyramid
from smidgen.tokens.salience_filtering import AttentionAmongBest, SalienceFilteredEncoder
from smidgen.tokens.salience_prediction import SaliencePredictor, TopDownSalience
from smidgen.tokens.staged_encoder import StagedEncoder


@dataclass(frozen=True, kw_only=True)
class SalienceDETRConfig:
    """Defaults: the released R50 configuration (50.0 AP on COCO val after 12 epochs by its README).

    level_ratios: share of each level's cells that the encoder may refine, finest first. layer_ratios: share of those
    that each encoder layer refines; as many as encoder layers. densely_attended: tokens with dense attention before
    each layer, chosen by `best_by` (see SalienceFilteredEncoder). modulate_after_norm: where the coarser salience map
    acts (see TopDownSalience). background_rows: size of the background embedding, 0 = none.
    fusion: cross-level fusion; without it the paper calls the network Salience DETR*. suppression_iou: above it a token
    suppresses a neighbor (0.3: direct neighbors of its level). level_limits_px, salience_confidence: see
    SalienceLoss; None teaches every level all objects, as the paper's text says. salience_weight: of the salience loss.
    sparse_finest: compute only a share of the finest level, which must have stride 4; None = all of it. What the lists
    above say of the finest level is then not read: it has no salience.
    """

    num_classes: int
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig(name="resnet50.tv2_in1k"))
    num_levels: int = 4
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    num_queries: int = 900
    level_ratios: tuple[float, ...] = (0.4, 0.8, 1.0, 1.0)
    layer_ratios: tuple[float, ...] = (1.0, 0.8, 0.6, 0.6, 0.4, 0.2)
    densely_attended: int = 300
    best_by: Literal["logits", "probabilities"] = "logits"
    values: Literal["input", "refined"] = "input"
    modulate_after_norm: bool = False
    background_rows: int = 200
    fusion: bool = True
    suppression_iou: float = 0.3
    denoising_queries: int = 100
    label_noise: float = 0.5
    box_noise: float = 1.0
    num_detections: int = 300
    sparse_finest: SparseFinestConfig | None = None
    level_limits_px: tuple[float, ...] | None = OFFICIAL_LIMITS_PX
    salience_confidence: Literal["code", "paper"] = "code"
    salience_weight: float = 2.0
    loss: SetLossConfig = field(default_factory=SetLossConfig)
    preprocessing: Preprocessing = field(default_factory=lambda: Preprocessing(pad_multiple=32))
    parity: bool = False
    parts: Mapping[str, str] = field(default_factory=dict)


def salience_detr(config: SalienceDETRConfig, pretrained: bool = False) -> DETR:
    """Build the network; `pretrained` asks timm for backbone weights."""
    sizes, eps = config.transformer, 1e-3 if config.parity else 1e-5
    body = backbone(config.backbone, pretrained)
    position = SinePosition(sizes.width, temperature=10000.0, offset=-0.5)
    proposals = ProposalHead(sizes.width, config.num_classes)
    stages = {
        "preprocessing": config.preprocessing,
        "backbone": body,
        "neck": ChannelMapper(body.channels, sizes.width, config.num_levels, bias=False),
        "flatten": FlattenPyramid(sizes.width, config.num_levels, position),
        "encoder": _encoder(config, proposals),
        "proposals": proposals,
        "budget": FixedBudget(config.num_queries),
        "selection": SuppressedTopK(config.suppression_iou, skip_invalid=not config.parity, fill=not config.parity),
        "content": LearnedContent(config.num_queries, sizes.width),
        "denoising": contrastive_denoising(config, config.num_classes),
        "decoder": DeformableDecoder(
            decoder_layer(sizes, config.num_levels),
            sizes.decoder_layers,
            BoxPosition(sizes.width, in_canvas=config.parity),
            LookForwardTwice(*heads(sizes, config.num_classes), sizes.width, eps),
        ),
        "readout": TopScoring(config.num_detections, clip=not config.parity),
    }
    return DETR(**with_parts(stages, config))


def _encoder(config: SalienceDETRConfig, proposals: ProposalHead) -> nn.Module:
    _check(config)
    option = config.sparse_finest
    if option is None:
        return _filtered_encoder(config, proposals)
    own_layers = 2 if option.own_layers is None else option.own_layers
    return coarse_first_encoder(config, _filtered_encoder(_without_finest(config), proposals), own_layers)


def _without_finest(config: SalienceDETRConfig) -> SalienceDETRConfig:
    """The filtered levels of a network with a sparse finest one."""
    if config.sparse_finest is None:
        return config
    limits_px = None if config.level_limits_px is None else config.level_limits_px[1:]
    return replace(
        config, num_levels=config.num_levels - 1, level_ratios=config.level_ratios[1:], level_limits_px=limits_px
    )


def _filtered_encoder(config: SalienceDETRConfig, proposals: ProposalHead) -> nn.Module:
    sizes, mask_padding = config.transformer, not config.parity
    dense = partial(AttentionAmongBest, sizes.width, sizes.num_heads, config.densely_attended, sizes.dropout)
    encoder = SalienceFilteredEncoder(
        encoder_layer(sizes, config.num_levels),
        dense if config.densely_attended else None,
        salience=TopDownSalience(
            SaliencePredictor(sizes.width, mask_padding),
            config.num_levels,
            align_corners=config.parity,
            after_norm=config.modulate_after_norm,
        ),
        proposals=proposals,
        background=BackgroundEmbedding(sizes.width, config.background_rows) if config.background_rows else None,
        level_ratios=config.level_ratios,
        layer_ratios=config.layer_ratios,
        best_by=config.best_by,
        values=config.values,
        per_batch=config.parity,
    )
    fusion = [CrossLevelFusion(sizes.width, config.num_levels, mask_padding=mask_padding)] if config.fusion else []
    return StagedEncoder(encoder, fusion)


def _check(config: SalienceDETRConfig) -> None:
    """Raise ValueError where lists do not fit the network's sizes, before data is read."""
    check_sparse_finest(config)
    if config.sparse_finest is not None and config.sparse_finest.own_layers == 0:
        raise ValueError(
            "expected layers of its own for the finest level, since Salience DETR's encoder filters the others; change "
            "model.sparse_finest.own_layers to 1 or more"
        )
    for name, size, of in (
        ("level_ratios", config.num_levels, "levels"),
        ("layer_ratios", config.transformer.encoder_layers, "encoder layers"),
        ("level_limits_px", config.num_levels, "levels"),
    ):
        values = getattr(config, name)
        if values is not None and len(values) != size:
            raise ValueError(f"expected a number for each of {size} {of} in model.{name}, got {values}")
    if "proposals" in config.parts and "encoder" not in config.parts:
        raise ValueError(
            "expected a registered encoder beside the registered proposals, since Salience DETR's encoder judges "
            "tokens with the proposal stage it was built with; add model.parts.encoder"
        )


def salience_detr_criterion(config: SalienceDETRConfig) -> SetLoss:
    """IoU-aware class loss, L1 and GIoU on all outputs, and the losses of the salience and query maps."""
    salience = SalienceLoss(
        limits_px=_without_finest(config).level_limits_px,
        confidence=config.salience_confidence,
        mask_padding=not config.parity,
        per_process=config.parity,
    )
    return set_loss(
        config.loss,
        log_eps=1e-6 if config.parity else 1e-8,
        classification=VarifocalClassification(),
        evidence_terms=[(config.salience_weight, salience), *finest_level_terms(config)],
    )
