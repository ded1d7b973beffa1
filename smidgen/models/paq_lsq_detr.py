"""Two ideas of papers that never met: LSQ-DETR's counted, stratified queries with PaQ-DETR's shared patterns.

"PaQ-DETR" (CVPR 2026, arXiv 2603.06917) names a fixed number of queries as a limit of its own; Huang et al., "DQ-DETR",
ECCV 2024, and LSQ-DETR (released code of 2026) count the objects first. Against models/lsq_detr.py: queries contain
mixtures of patterns, not what was encoded where they start, and intermediate layers are supervised one to many. With a
counted budget an image uses the first rows of the mixture only; so that all of them learn, whatever was counted, half
of the training images draw another budget (queries/nested_dropout.py; nested_dropout=0 takes it away). Ours.

parity=True switches what it does in models/lsq_detr.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from smidgen.losses import SetLoss
from smidgen.losses.object_count import ObjectCountLoss
from smidgen.models.config import BackboneConfig, SetLossConfig, TransformerConfig
from smidgen.models.detr import DETR, with_parts
from smidgen.models.lsq_detr import LSQDETRConfig, Quotas, lsq_detr_stages, scale_weighting
from smidgen.models.paq_detr import PatternConfig, QualityConfig, of_baseline, pattern_and_quality_terms, with_patterns
from smidgen.models.parts import set_loss
from smidgen.queries.counted_budget import PAPER_BUDGETS
from smidgen.queries.nested_dropout import NestedDropout
from smidgen.structures import Preprocessing
from smidgen.tokens.object_counting import PAPER_THRESHOLDS


@dataclass(frozen=True, kw_only=True)
class PaQLSQDETRConfig:
    """Fields of LSQDETRConfig and of PaQ-DETR, with their defaults. nested_dropout: share of the training images that
    draw another budget.
    """

    num_classes: int
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig(strides=(4, 8, 16, 32)))
    num_levels: int = 5
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    patterns: PatternConfig | None = field(default_factory=PatternConfig)
    quality: QualityConfig | None = field(default_factory=QualityConfig)
    classification: Literal["varifocal", "focal"] = "varifocal"
    nested_dropout: float = 0.5
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
        of_baseline(LSQDETRConfig, self)  # raises ValueError where the baseline would


def paq_lsq_detr(config: PaQLSQDETRConfig, pretrained: bool = False) -> DETR:
    """Build the network; `pretrained` asks timm for backbone weights."""
    stages = lsq_detr_stages(of_baseline(LSQDETRConfig, config), pretrained)
    stages["budget"] = NestedDropout(stages["budget"], config.budgets, config.nested_dropout)
    return DETR(**with_parts(with_patterns(stages, config, max(config.budgets)), config))


def paq_lsq_detr_criterion(config: PaQLSQDETRConfig) -> SetLoss:
    """LSQ-DETR's losses with PaQ-DETR's class loss, rules and diversity."""
    weighting = scale_weighting(of_baseline(LSQDETRConfig, config))
    terms = pattern_and_quality_terms(config, weighting, giou_eps=1e-6 if config.parity else 0.0)
    terms["evidence_terms"] = [(1.0, ObjectCountLoss()), *terms["evidence_terms"]]
    return set_loss(config.loss, **terms)
