"""DQ-DETR: DINO from stride 4 that counts the objects first, and asks as many queries as the count needs.

Huang et al., "DQ-DETR: DETR with Dynamic Query for Tiny Object Detection", ECCV 2024. Against models/dino.py: a counter
on the finest memory level, whose features gate the memory; a query budget by the counted class; queries that contain
what was encoded where they start, not a learned row.

counting="light" replaces the counter (42 % of the computation) by one that costs about a seventieth of it.

parity=True switches to what the official code does, as in models/dino.py and besides:
    counting, gates    padded cells are averaged over and convolved (default: zero, and in no statistic)
    batch norm         statistics of each level in training (default: of all levels, as in evaluation)
    budget             the largest of the batch for every image (default: each image's own)
    detections         as many as the batch has query rows, at most rows x classes (default: the largest budget)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from smidgen.decoder.deformable_decoder import DeformableDecoder
from smidgen.decoder.query_position import BoxPosition
from smidgen.decoder.readout import TopScoring
from smidgen.decoder.refinement import LookForwardTwice
from smidgen.features.channel_mapper import ChannelMapper
from smidgen.losses import SetLoss
from smidgen.losses.object_count import ObjectCountLoss
from smidgen.models.config import BackboneConfig, SetLossConfig, TransformerConfig
from smidgen.models.derived_settings import AUTO
from smidgen.models.detr import DETR, with_parts
from smidgen.models.parts import backbone, contrastive_denoising, decoder_layer, deformable_encoder, set_loss
from smidgen.nn.initialize import box_head, class_head
from smidgen.nn.position_encoding import SinePosition
from smidgen.queries.content import PlaceContent
from smidgen.queries.counted_budget import PAPER_BUDGETS, CountedBudget
from smidgen.queries.proposals import ProposalHead
from smidgen.queries.topk import TopK
from smidgen.structures import Preprocessing
from smidgen.tokens.counting_enhancement import CountingEnhancement
from smidgen.tokens.flatten import FlattenPyramid
from smidgen.tokens.object_counting import PAPER_THRESHOLDS, CategoricalCounter, LightCounter
from smidgen.tokens.staged_encoder import StagedEncoder


@dataclass(frozen=True, kw_only=True)
class DQDETRConfig:
    """Defaults: AI-TOD-v2, R50 (released code). `parts` names registered parts that replace stages.

    count_thresholds: where the classes of object counts begin, a property of the data set; "auto" is resolved from it
    before the model is built (models/derived_settings.py). budgets: queries of each class. num_detections: None = the
    largest budget; in parity mode the batch's number of query rows. label_rows: of the denoising label table, at least
    num_classes + 1 (officially always 92). Raises ValueError where these do not fit each other.
    """

    num_classes: int
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig(strides=(4, 8, 16, 32)))
    num_levels: int = 5
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    counting: Literal["categorical", "light"] = "categorical"
    count_thresholds: tuple[int, ...] | Literal["auto"] = PAPER_THRESHOLDS
    budgets: tuple[int, ...] = PAPER_BUDGETS
    temperature: float = 20.0
    denoising_queries: int = 100
    label_rows: int = 92
    label_noise: float = 0.5
    box_noise: float = 1.0
    num_detections: int | None = None
    loss: SetLossConfig = field(default_factory=SetLossConfig)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    parity: bool = False
    parts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_counting(self)


def dq_detr(config: DQDETRConfig, pretrained: bool = False) -> DETR:
    """Build the network; `pretrained` asks timm for backbone weights."""
    sizes, eps = config.transformer, 1e-3 if config.parity else 1e-5
    body = backbone(config.backbone, pretrained)
    stages = {
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
                    channel_gate=True,
                    mask_padding=not config.parity,
                    norm_per_level=config.parity,
                )
            ],
        ),
        "proposals": ProposalHead(sizes.width, config.num_classes),
        "budget": CountedBudget(config.budgets, per_batch=config.parity),
        "selection": TopK(skip_invalid=not config.parity),
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
    return DETR(**with_parts(stages, config))


def dq_detr_criterion(config: DQDETRConfig) -> SetLoss:
    """DINO's losses and the counter's, of weight 1."""
    giou_eps = 1e-6 if config.parity else 0.0
    return set_loss(config.loss, giou_eps=giou_eps, evidence_terms=[(1.0, ObjectCountLoss())])


def check_counting(config: Any) -> None:
    """Raise ValueError unless `count_thresholds`, `budgets` and `num_detections` of a configuration make sense."""
    if not config.budgets or min(config.budgets) < 1:
        raise ValueError(f"expected budgets of at least 1 query, got {config.budgets}; change model.budgets")
    if config.count_thresholds != AUTO:
        _check_thresholds(config.count_thresholds, config.budgets)
    if config.num_detections is not None and config.num_detections < 1:
        raise ValueError(f"expected at least 1 detection, got {config.num_detections}; change model.num_detections")


def _check_thresholds(thresholds: tuple[int, ...], budgets: tuple[int, ...]) -> None:
    if not thresholds or any(high <= low for low, high in pairwise((0, *thresholds))):
        raise ValueError(
            f"expected ascending thresholds of object counts, all at least 1, got {thresholds}; "
            "change model.count_thresholds"
        )
    if len(budgets) != len(thresholds) + 1:
        raise ValueError(
            f"expected one budget more than the {len(thresholds)} thresholds of object counts, got {len(budgets)}; "
            "change model.budgets or model.count_thresholds"
        )


def num_detections(config: Any) -> int | None:
    """Detections per image: as asked for, else the largest budget; None = as many as query rows (parity)."""
    if config.num_detections is not None:
        return int(config.num_detections)
    return None if config.parity else max(config.budgets)


def counter(config: Any) -> CategoricalCounter | LightCounter:
    """The counter by the fields `counting`, `count_thresholds` and `parity` of a configuration."""
    if config.count_thresholds == "auto":
        raise ValueError(
            'expected thresholds of object counts to build the model, got count_thresholds="auto", which must be '
            "resolved from a data set first; give model.count_thresholds numbers"
        )
    kind = LightCounter if config.counting == "light" else CategoricalCounter
    return kind(config.transformer.width, config.count_thresholds, mask_padding=not config.parity)
