"""PaQ-DETR: queries mixed from shared patterns by what the image shows, and objects that several queries answer for.

"PaQ-DETR", CVPR 2026 (arXiv 2603.06917); no code is public. Two additions to any deformable detector of this family,
here to those of the Relation-DETR repository, whose files (deformable_detr.py, dab_deformable_detr.py,
dn_deformable_detr.py, dino_plus.py) show everything else, `parity` included:

    patterns    mixtures of patterns take the place of the queries' learned, encoded or proposed content; where queries
                start and how they encode it stays as it is
    quality     the decoder's intermediate layers are supervised one to many, by how well a box lies and how little its
                score says so; the last layer stays one to one
    losses      class scores are taught the IoU (varifocal loss), and patterns are pushed apart

`patterns=None`, `quality=None` and `classification="focal"` take one of them away; without all three it is the
baseline. What the sources leave open is a field of `PatternConfig` and `QualityConfig`. `hybrid_queries` adds H-DETR's
branch in training. The position relation is off for DINO and on for DAB and DN, as in the first author's fork of that
repository, and in Deformable DETR it never did anything; pretrained weights are torchvision's second, as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from torch import nn

from smidgen.assignment import HungarianAssignment, QualityOneToMany
from smidgen.losses import PairWeighting, SetLoss, VarifocalClassification
from smidgen.losses.overlap_weighting import OverlapWeighting
from smidgen.losses.pattern_diversity import PatternDiversity
from smidgen.losses.set_loss import EvidenceTerm
from smidgen.models.config import BackboneConfig, SetLossConfig, TransformerConfig
from smidgen.models.dab_deformable_detr import DABDeformableDETRConfig, dab_deformable_detr_stages
from smidgen.models.deformable_detr import TwoStageConfig, two_stage_stages
from smidgen.models.detr import DETR, with_parts
from smidgen.models.dino_plus import DINOPlusConfig, dino_plus_stages
from smidgen.models.dn_deformable_detr import DNDeformableDETRConfig, dn_deformable_detr_stages
from smidgen.models.parts import one_to_one, set_loss
from smidgen.nn.conditioned_table import DenseTable, FactorizedTable
from smidgen.queries.content import LearnedContent
from smidgen.queries.hybrid_queries import HybridQueries
from smidgen.queries.pattern_content import PatternAndLearnedContent, PatternContent, PatternMixing
from smidgen.structures import Preprocessing
from smidgen.tokens.staged_encoder import StagedEncoder

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Baseline = TypeVar("Baseline", bound="DataclassInstance")

_V2_WEIGHTS = "resnet50.tv2_in1k"


@dataclass(frozen=True, kw_only=True)
class PatternConfig:
    """How queries are mixed of patterns; defaults of the paper, or where it is silent, with the reason.

    number: 150 to 200 are best on COCO (paper, figure 3a). source: "pattern", or "pattern_static" with a learned row of
    each query's own added (ours). head: "factorized" of this rank, since the paper's cost table (+1.8 M parameters) has
    no room for a "dense" one (34.7 M at 900 queries). extractor_width: fits the same table. dilations: None = 1, 2, 4
    ... from the finest level on (the fork's). extractor_norm: "none", since the paper lists none.
    fusion, fusion_attention, fusion_skip, temperature: see PatternMixing. keep_indicator: patterns are one channel
    narrower and end with DN-DETR's zero (the fork leaves it out). diversity: weight of the loss that pushes patterns
    apart (0.2 is best, 0 loses 0.6 AP); diversity_form: see PatternDiversity; reports of the paper differ.
    """

    number: int = 150
    source: Literal["pattern", "pattern_static"] = "pattern"
    head: Literal["factorized", "dense"] = "factorized"
    rank: int = 64
    extractor_width: int = 160
    dilations: tuple[int, ...] | None = None
    extractor_norm: Literal["none", "group", "batch"] = "none"
    fusion: Literal["top_down", "mean"] = "top_down"
    fusion_attention: Literal["eca+coord", "none"] = "eca+coord"
    fusion_skip: bool = True
    temperature: float = 1.0
    keep_indicator: bool = False
    diversity: float = 0.2
    diversity_form: Literal["abs", "signed", "sq"] = "abs"

    def __post_init__(self) -> None:
        if self.keep_indicator and self.source == "pattern_static":
            raise ValueError(
                "expected keep_indicator or source='pattern_static' in model.patterns, got both: learned rows would "
                "add to the indicator"
            )
        for name in ("number", "rank", "extractor_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected at least 1, got {getattr(self, name)}; change model.patterns.{name}")
        if self.diversity < 0:
            raise ValueError(f"expected a weight of at least 0, got {self.diversity}; change model.patterns.diversity")


@dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """How intermediate layers are supervised one to many; all but the last four fields are QualityOneToMany's.

    supervised: "auxiliary" layers (paper), or "auxiliary_and_proposals" (fork). mode: the rule "replaces" one-to-one
    matching there (fork), or "both" supervise, which is a literal reading of the paper's sum of losses and teaches
    contradicting classes. normalizer: sums are divided by the number of "objects" (fork), so that losses grow with the
    number of positives, or by that of "positives" (H-DETR). box_weight: the box losses of these sets' positives count
    alike ("none", the paper names no weight), or by the pair's "iou" (losses/overlap_weighting.py).
    """

    confidence_weight: float = 0.4
    num_candidates: int = 4
    min_positives: int = 1
    quality_per_positive: float = 1.0
    count_rule: Literal["article", "paper"] = "article"
    confidence: Literal["target", "max"] = "target"
    quality: Literal["difference", "product"] = "difference"
    select: Literal["topq", "hungarian_copies"] = "topq"
    iou_min: float = 0.0
    union_one_to_one: bool = False
    supervised: Literal["auxiliary", "auxiliary_and_proposals"] = "auxiliary"
    mode: Literal["replaces", "both"] = "replaces"
    normalizer: Literal["objects", "positives"] = "objects"
    box_weight: Literal["none", "iou"] = "none"

    def __post_init__(self) -> None:
        self.rule(HungarianAssignment())  # raises ValueError where there is no such rule

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the sets that the rule supervises."""
        decoder = "quality" if self.mode == "both" else "auxiliary"
        return (decoder, "proposals") if self.supervised == "auxiliary_and_proposals" else (decoder,)

    def rule(self, one_to_one: HungarianAssignment) -> QualityOneToMany:
        """one_to_one: whose costs and solver decide on copies and on the pairs of the union."""
        own = {each.name for each in fields(QualityOneToMany)}
        options = {each.name: getattr(self, each.name) for each in fields(self) if each.name in own}
        matched = self.union_one_to_one or self.select == "hungarian_copies"
        costs = one_to_one.costs if matched else None
        return QualityOneToMany(**options, costs=costs, solver=one_to_one.solver)


@dataclass(frozen=True, kw_only=True)
class PaQDeformableDETRConfig:
    """Defaults: PaQ-Deformable-DETR, R50, 300 queries (48.4 AP on COCO val after 12 epochs by the paper)."""

    num_classes: int
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig(name=_V2_WEIGHTS))
    num_levels: int = 4
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    num_queries: int = 300
    patterns: PatternConfig | None = field(default_factory=PatternConfig)
    quality: QualityConfig | None = field(default_factory=QualityConfig)
    classification: Literal["varifocal", "focal"] = "varifocal"
    hybrid_queries: int = 0
    hybrid_repeats: int = 6
    num_detections: int = 300
    loss: SetLossConfig = field(default_factory=SetLossConfig)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    parity: bool = False
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PaQDABDeformableDETRConfig:
    """Defaults: PaQ-DAB-Deformable-DETR, R50, 300 queries (49.2 AP on COCO val after 12 epochs by the paper)."""

    num_classes: int
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig(name=_V2_WEIGHTS))
    num_levels: int = 4
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    num_queries: int = 300
    relation: bool = True
    patterns: PatternConfig | None = field(default_factory=PatternConfig)
    quality: QualityConfig | None = field(default_factory=QualityConfig)
    classification: Literal["varifocal", "focal"] = "varifocal"
    hybrid_queries: int = 0
    hybrid_repeats: int = 6
    num_detections: int = 300
    loss: SetLossConfig = field(default_factory=SetLossConfig)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    parity: bool = False
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PaQDNDeformableDETRConfig:
    """Defaults: PaQ-DN-Deformable-DETR, R50, 300 queries (48.9 AP on COCO val after 12 epochs by the paper).

    Its places are learned, so that there are no proposals for H-DETR's branch.
    """

    num_classes: int
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig(name=_V2_WEIGHTS))
    num_levels: int = 4
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    num_queries: int = 300
    relation: bool = True
    patterns: PatternConfig | None = field(default_factory=PatternConfig)
    quality: QualityConfig | None = field(default_factory=QualityConfig)
    classification: Literal["varifocal", "focal"] = "varifocal"
    denoising_groups: int = 5
    label_noise: float = 0.2
    box_noise: float = 0.4
    num_detections: int = 300
    loss: SetLossConfig = field(default_factory=SetLossConfig)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    parity: bool = False
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PaQDINOConfig:
    """Defaults: PaQ-DINO, R50, 900 queries (51.9 AP on COCO val after 12 epochs by the paper)."""

    num_classes: int
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig(name=_V2_WEIGHTS))
    num_levels: int = 4
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    num_queries: int = 900
    relation: bool = False
    patterns: PatternConfig | None = field(default_factory=PatternConfig)
    quality: QualityConfig | None = field(default_factory=QualityConfig)
    classification: Literal["varifocal", "focal"] = "varifocal"
    hybrid_queries: int = 0
    hybrid_repeats: int = 6
    denoising_queries: int = 100
    label_noise: float = 0.5
    box_noise: float = 1.0
    num_detections: int = 300
    loss: SetLossConfig = field(default_factory=SetLossConfig)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    parity: bool = False
    parts: Mapping[str, str] = field(default_factory=dict)


def paq_deformable_detr(config: PaQDeformableDETRConfig, pretrained: bool = False) -> DETR:
    """Two-stage Deformable DETR whose content was an encoding of the box."""
    stages = two_stage_stages(of_baseline(TwoStageConfig, config), pretrained)
    return _built(stages | hybrid_branch(config, score="first"), config)


def paq_dab_deformable_detr(config: PaQDABDeformableDETRConfig, pretrained: bool = False) -> DETR:
    """DAB-Deformable DETR whose content was the proposal's feature."""
    stages = dab_deformable_detr_stages(of_baseline(DABDeformableDETRConfig, config), pretrained)
    return _built(stages | hybrid_branch(config), config)


def paq_dn_deformable_detr(config: PaQDNDeformableDETRConfig, pretrained: bool = False) -> DETR:
    """DN-Deformable DETR whose content was a learned row with an indicator."""
    return _built(dn_deformable_detr_stages(of_baseline(DNDeformableDETRConfig, config), pretrained), config)


def paq_dino(config: PaQDINOConfig, pretrained: bool = False) -> DETR:
    """DINO whose content was a learned row."""
    stages = dino_plus_stages(of_baseline(DINOPlusConfig, config), pretrained)
    return _built(stages | hybrid_branch(config), config)


def paq_deformable_detr_criterion(config: PaQDeformableDETRConfig) -> SetLoss:
    """As the others', on every token's proposal as object / no object."""
    terms = pattern_and_quality_terms(config, log_eps=_log_eps(config))
    return set_loss(config.loss, binary_proposals=True, **terms)


def paq_dab_deformable_detr_criterion(config: PaQDABDeformableDETRConfig) -> SetLoss:
    """Varifocal, L1, GIoU and diversity losses; intermediate layers one to many."""
    return set_loss(config.loss, **pattern_and_quality_terms(config, log_eps=_log_eps(config)))


def paq_dn_deformable_detr_criterion(config: PaQDNDeformableDETRConfig) -> SetLoss:
    """Varifocal, L1, GIoU and diversity losses; intermediate layers one to many."""
    return set_loss(config.loss, **pattern_and_quality_terms(config, log_eps=_log_eps(config)))


def paq_dino_criterion(config: PaQDINOConfig) -> SetLoss:
    """Varifocal, L1, GIoU and diversity losses; intermediate layers one to many."""
    return set_loss(config.loss, **pattern_and_quality_terms(config, log_eps=_log_eps(config)))


def of_baseline(kind: type[Baseline], config: Any) -> Baseline:
    """The baseline's configuration: the fields that it shares with `config`."""
    return kind(**{each.name: getattr(config, each.name) for each in fields(kind)})


def with_patterns(stages: Mapping[str, Any], config: Any, num_rows: int) -> dict[str, Any]:
    """The stages with pattern-mixed content for up to `num_rows` queries, by `config.patterns`; None = as they are."""
    patterns: PatternConfig | None = config.patterns
    if patterns is None:
        return dict(stages)
    width = config.transformer.width
    mixing = PatternMixing(
        _weight_head(patterns, num_rows, width),
        width,
        config.num_levels,
        extractor_width=patterns.extractor_width,
        dilations=patterns.dilations,
        extractor_norm=patterns.extractor_norm,
        fusion=patterns.fusion,
        fusion_attention=patterns.fusion_attention,
        fusion_skip=patterns.fusion_skip,
        temperature=patterns.temperature,
        keep_indicator=patterns.keep_indicator,
    )
    static = patterns.source == "pattern_static"
    return {
        **stages,
        "encoder": StagedEncoder(stages["encoder"], [mixing]),
        "content": PatternAndLearnedContent(num_rows, width) if static else PatternContent(),
    }


def hybrid_branch(config: Any, score: Literal["max", "first"] = "max") -> dict[str, nn.Module]:
    """H-DETR's stage by `config.hybrid_queries`, 0 = none."""
    if config.hybrid_queries < 0 or config.hybrid_repeats < 1:
        raise ValueError(
            "expected model.hybrid_queries of at least 0 and model.hybrid_repeats of at least 1, got "
            f"{config.hybrid_queries} and {config.hybrid_repeats}"
        )
    if config.hybrid_queries == 0:
        return {}
    content = LearnedContent(config.hybrid_queries, config.transformer.width)
    branch = HybridQueries(
        content, config.hybrid_queries, config.hybrid_repeats, score=score, skip_invalid=not config.parity
    )
    return {"one_to_many": branch}


def pattern_and_quality_terms(config: Any, weighting: PairWeighting | None = None, **matching: Any) -> dict[str, Any]:
    """What PaQ-DETR adds to `set_loss`: the class loss, the rules of intermediate layers, the patterns' diversity.

    weighting: of the system's box losses. matching: options of its one-to-one matching, such as `log_eps`.
    """
    terms: list[tuple[float, EvidenceTerm]] = []
    if config.patterns is not None:
        terms.append((config.patterns.diversity, PatternDiversity(form=config.patterns.diversity_form)))
    quality: QualityConfig | None = config.quality
    if quality is not None and quality.box_weight == "iou":
        weighting = OverlapWeighting(sets=quality.sets, also=weighting)
    return {
        "classification": VarifocalClassification() if config.classification == "varifocal" else None,
        "evidence_terms": terms,
        "weighting": weighting,
        **matching,
        **({} if quality is None else _rules(quality, one_to_one(config.loss, **matching))),
    }


def _rules(quality: QualityConfig, matching: HungarianAssignment) -> dict[str, Any]:
    """One to many where `quality` says so."""
    rule = quality.rule(matching)
    averaged = quality.sets if quality.normalizer == "positives" else ()
    return {
        "assignments": {name: rule for name in quality.sets if name != "quality"},
        "further_assignments": {name: rule for name in quality.sets if name == "quality"},
        "averaged_over_matches": averaged,
    }


def _built(stages: Mapping[str, Any], config: Any) -> DETR:
    return DETR(**with_parts(with_patterns(stages, config, config.num_queries), config))


def _weight_head(patterns: PatternConfig, num_rows: int, width: int) -> DenseTable | FactorizedTable:
    if patterns.head == "dense":
        return DenseTable(num_rows, patterns.number, width)
    return FactorizedTable(num_rows, patterns.number, width, patterns.rank)


def _log_eps(config: Any) -> float:
    return 1e-6 if config.parity else 1e-8
