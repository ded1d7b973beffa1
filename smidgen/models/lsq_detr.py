"""LSQ-DETR: DQ-DETR whose queries are shared out among the levels, and whose box losses weigh small objects more.

Released code of 2026, built on Huang et al., "DQ-DETR: DETR with Dynamic Query for Tiny Object Detection", ECCV 2024.
Against models/dq_detr.py: the selection is stratified by level; L1 and GIoU losses are weighted by object size early in
training, and by 5.5 and 2.2 in place of 5 and 2; the memory has no channel gate.

parity=True switches to what the official code does, as in models/dq_detr.py and besides:
    selection          shares are truncated, a short level gives fewer queries (default: the others give the rest)
    scale weights      every image counts as 800 x 800 pixels (default: its size), means are those of one process
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from smidgen.decoder.deformable_decoder import DeformableDecoder
from smidgen.decoder.query_position import BoxPosition
from smidgen.decoder.readout import TopScoring
from smidgen.decoder.refinement import LookForwardTwice
from smidgen.features.channel_mapper import ChannelMapper
from smidgen.losses import SetLoss
from smidgen.losses.object_count import ObjectCountLoss
from smidgen.losses.scale_weighting import ScaleWeighting
from smidgen.models.config import BackboneConfig, SetLossConfig, TransformerConfig
from smidgen.models.detr import DETR, with_parts
from smidgen.models.dq_detr import check_counting, counter, num_detections
from smidgen.models.parts import backbone, contrastive_denoising, decoder_layer, deformable_encoder, set_loss
from smidgen.nn.initialize import box_head, class_head
from smidgen.nn.position_encoding import SinePosition
from smidgen.queries.content import PlaceContent
from smidgen.queries.counted_budget import PAPER_BUDGETS, CountedBudget
from smidgen.queries.proposals import ProposalHead
from smidgen.queries.stratified_topk import PAPER_QUOTAS, StratifiedTopK, check_quotas, folded
from smidgen.structures import Preprocessing
from smidgen.tokens.counting_enhancement import CountingEnhancement
from smidgen.tokens.flatten import FlattenPyramid
from smidgen.tokens.object_counting import PAPER_THRESHOLDS
from smidgen.tokens.staged_encoder import StagedEncoder

Quotas = Mapping[int, tuple[float, ...]]
"""Query budget -> share of each level, finest first."""


@dataclass(frozen=True, kw_only=True)
class LSQDETRConfig:
    """Defaults: AI-TOD-v2, R50 (released code). `parts` names registered parts that replace stages.

    count_thresholds: where the classes of object counts begin, a property of the data set; budgets: queries of each
    class; quotas: how each budget is shared out among the levels, a table or "paper", whose shares of levels that the
    model lacks go to its coarsest. "auto" is resolved from the data
    before the model is built (models/derived_settings.py). scale_bins_px, scale_weights, scale_decay: of
    `ScaleWeighting`. num_detections: None = the largest budget; in parity mode the batch's number of query rows.
    label_rows: of the denoising label table, at least num_classes + 1 (officially always 92). Raises ValueError where
    these do not fit each other.
    """

    num_classes: int
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig(strides=(4, 8, 16, 32)))
    num_levels: int = 5
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    counting: Literal["categorical", "light"] = "categorical"
    count_thresholds: tuple[int, ...] | Literal["auto"] = PAPER_THRESHOLDS
    budgets: tuple[int, ...] = PAPER_BUDGETS
    quotas: Quotas | Literal["paper", "auto"] = "paper"
    temperature: float = 20.0
    denoising_queries: int = 100
    label_rows: int = 92
    label_noise: float = 0.5
    box_noise: float = 1.0
    num_detections: int | None = None
    loss: SetLossConfig = field(default_factory=lambda: SetLossConfig(l1=5.5, giou=2.2))
    scale_bins_px: tuple[float, ...] = (4, 8, 16, 32)
    scale_weights: tuple[float, ...] = (3.0, 2.5, 2.0, 1.5, 1.0)
    scale_decay: float = 0.5
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    parity: bool = False
    parts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_counting(self)
        if not isinstance(self.quotas, str):
            check_quotas(self.quotas, self.num_levels)
        scale_weighting(self)


def lsq_detr(config: LSQDETRConfig, pretrained: bool = False) -> DETR:
    """Build the network; `pretrained` asks timm for backbone weights."""
    return DETR(**with_parts(lsq_detr_stages(config, pretrained), config))


def lsq_detr_stages(config: LSQDETRConfig, pretrained: bool = False) -> dict[str, Any]:
    """The parts by stage, so that another system can say what it does differently."""
    sizes, eps = config.transformer, 1e-3 if config.parity else 1e-5
    body = backbone(config.backbone, pretrained)
    return {
        "preprocessing": config.preprocessing,
        "backbone": body,
        "neck": ChannelMapper(body.channels, sizes.width, config.num_levels),
        "flatten": FlattenPyramid(sizes.width, config.num_levels, SinePosition(sizes.width, config.temperature)),
        "encoder": StagedEncoder(
            deformable_encoder(sizes, config.num_levels),
            [
                CountingEnhancement(
                    counter(config),
                    sizes.width,
                    config.num_levels,
                    mask_padding=not config.parity,
                    norm_per_level=config.parity,
                )
            ],
        ),
        "proposals": ProposalHead(sizes.width, config.num_classes),
        "budget": CountedBudget(config.budgets, per_batch=config.parity),
        "selection": StratifiedTopK(
            table_of_quotas(config), skip_invalid=not config.parity, redistribute=not config.parity
        ),
        "content": PlaceContent(),
        "denoising": contrastive_denoising(config, max(config.label_rows, config.num_classes + 1), groups="official"),
        "decoder": DeformableDecoder(
            decoder_layer(sizes, config.num_levels),
            sizes.decoder_layers,
            BoxPosition(sizes.width, in_canvas=config.parity),
            LookForwardTwice([class_head(sizes.width, config.num_classes)], [box_head(sizes.width)], sizes.width, eps),
        ),
        "readout": TopScoring(num_detections(config), clip=not config.parity),
    }


def lsq_detr_criterion(config: LSQDETRConfig) -> SetLoss:
    """DQ-DETR's losses, those of boxes weighted by the size of their objects."""
    return set_loss(
        config.loss,
        giou_eps=1e-6 if config.parity else 0.0,
        weighting=scale_weighting(config),
        evidence_terms=[(1.0, ObjectCountLoss())],
    )


def scale_weighting(config: LSQDETRConfig) -> ScaleWeighting:
    """How much each object's size weighs in the box losses."""
    return ScaleWeighting(
        bins_px=config.scale_bins_px,
        weights=config.scale_weights,
        decay=config.scale_decay,
        constant_side_px=800.0 if config.parity else None,
        per_process_mean=config.parity,
    )


def table_of_quotas(config: LSQDETRConfig) -> Quotas:
    """The shares of each budget, of no more levels than the model has."""
    if config.quotas == "auto":
        raise ValueError(
            'expected a table of shares per query budget to build the model, got quotas="auto", which must be resolved '
            'from a data set first; give model.quotas a table or "paper"'
        )
    return folded(PAPER_QUOTAS, config.num_levels) if isinstance(config.quotas, str) else config.quotas
