"""Faster R-CNN: a network proposes regions at anchors of a pyramid, a second stage classifies and corrects them.

Ren et al., "Faster R-CNN", 2015, on the pyramid of Lin et al., CVPR 2017, with detectron2's numbers. QueryDet on it
(`query_det_faster_rcnn`: Yang et al., "QueryDet", CVPR 2022, table 9, whose code was not published): three convolutions
that objectness, boxes and queries share; the anchors of P3 and P2 are computed where queries point, so that fewer
regions reach the second stage, which reads dense maps.

parity=True switches to what the official codes do: heads read the canvas's padding, and an object that lies between the
centers of cells is taught to no cell (small_objects.own_cell).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from smidgen.assignment.anchor_overlap import AnchorOverlap
from smidgen.assignment.balanced_sampling import BalancedSampling
from smidgen.assignment.region_sampling import RegionSampling
from smidgen.boxes.anchors import AnchorShapes
from smidgen.boxes.answer_matches import AnswerMatches
from smidgen.decoder.proposal_head import ProposalHead, TrunkQueryHead, proposal_trunk
from smidgen.decoder.region_proposals import RegionProposals
from smidgen.decoder.region_readout import RegionReadout
from smidgen.decoder.roi_head import RegionHead
from smidgen.features.feature_pyramid import FeaturePyramidNetwork
from smidgen.losses.dense_loss import AnchorLoss, DenseTerm, SmoothL1OfDeltas
from smidgen.losses.positive_count import counted_count
from smidgen.losses.region_loss import RegionLoss
from smidgen.models.config import BackboneConfig
from smidgen.models.dense_config import FROM_P2, PADDED, CascadeConfig, SmallObjectConfig
from smidgen.models.dense_parts import backbone, querying, small_object_term, strides_of
from smidgen.models.two_stage import TwoStageDetector, TwoStageLoss
from smidgen.structures import Preprocessing, Target

SIZE_IN_STRIDES = 8.0
"""Side of the anchors of a level, 32 px on P2; in QueryDet also s_l: smaller objects are left to the level below."""


@dataclass(frozen=True, kw_only=True)
class FasterRCNNConfig:
    """Defaults: Faster R-CNN R50-FPN, P2..P6.

    trunk_layers: convolutions of the first stage. num_regions: of an image after suppression. proposal_samples,
    region_samples: anchors and regions of an image that are judged in training. region_width: hidden channels of the
    second stage. score_threshold, nms_iou, num_detections: of what it finds.
    """

    num_classes: int
    backbone: BackboneConfig = field(default_factory=lambda: FROM_P2)
    num_levels: int = 5
    width: int = 256
    trunk_layers: int = 1
    num_regions: int = 1000
    proposal_samples: int = 256
    region_samples: int = 512
    region_width: int = 1024
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    num_detections: int = 100
    preprocessing: Preprocessing = field(default_factory=lambda: PADDED)
    parity: bool = False


@dataclass(frozen=True, kw_only=True)
class QueryDetFasterRCNNConfig:
    """Defaults: our reading of table 9. Fields as in `FasterRCNNConfig`; cascade: None = everything is computed."""

    num_classes: int
    backbone: BackboneConfig = field(default_factory=lambda: FROM_P2)
    num_levels: int = 5
    width: int = 256
    trunk_layers: int = 3
    small_objects: SmallObjectConfig = field(default_factory=SmallObjectConfig)
    cascade: CascadeConfig | None = field(default_factory=CascadeConfig)
    num_regions: int = 1000
    proposal_samples: int = 256
    region_samples: int = 512
    region_width: int = 1024
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    num_detections: int = 100
    preprocessing: Preprocessing = field(default_factory=lambda: PADDED)
    parity: bool = False


def faster_rcnn(config: FasterRCNNConfig, pretrained: bool = False) -> TwoStageDetector:
    """Build the network; `pretrained` asks timm or torchvision for backbone weights."""
    return TwoStageDetector(**_stages(config, pretrained))


def faster_rcnn_criterion(config: FasterRCNNConfig) -> TwoStageLoss:
    """Cross entropy and L1 losses of both stages."""
    return TwoStageLoss(_proposal_loss(config), RegionLoss())


def query_det_faster_rcnn(config: QueryDetFasterRCNNConfig, pretrained: bool = False) -> TwoStageDetector:
    """Build the network; `pretrained` asks timm or torchvision for backbone weights."""
    stages = _stages(config, pretrained)
    query_head = TrunkQueryHead(stages["head"].trunk, config.width)
    asked = querying(query_head, config.small_objects, config.cascade, config.num_levels)
    return TwoStageDetector(**stages, querying=asked)


def query_det_faster_rcnn_criterion(config: QueryDetFasterRCNNConfig) -> TwoStageLoss:
    """Faster R-CNN's losses, and the query maps' loss."""
    term = small_object_term(config.small_objects, SIZE_IN_STRIDES, config.parity)
    return TwoStageLoss(_proposal_loss(config, [term]), RegionLoss())


@dataclass(frozen=True)
class _Sampled:
    """An assignment of which only a sample is judged."""

    assignment: AnchorOverlap
    sampling: BalancedSampling

    def __call__(self, anchors_xyxy: Tensor, target: Target) -> AnswerMatches:
        return self.sampling(self.assignment(anchors_xyxy, target))


def _stages(config: FasterRCNNConfig | QueryDetFasterRCNNConfig, pretrained: bool) -> dict[str, Any]:
    """What both systems have; only the depth of the trunk differs."""
    body, anchors = backbone(config.backbone, pretrained), _anchors(config)
    return {
        "preprocessing": config.preprocessing,
        "backbone": body,
        "neck": FeaturePyramidNetwork(body.channels, config.width, top="pool", num_levels=config.num_levels),
        "head": ProposalHead(proposal_trunk(config.width, config.trunk_layers), config.width, anchors.num_anchors),
        "proposals": RegionProposals(anchors, num_regions=config.num_regions),
        "sampling": RegionSampling(
            assignment=AnchorOverlap(foreground_iou=0.5, background_iou=0.5, low_quality=False),
            sampling=BalancedSampling(number=config.region_samples, positive_share=0.25),
            num_classes=config.num_classes,
        ),
        "region_head": RegionHead(
            config.width, config.num_classes, config.backbone.strides, hidden=config.region_width
        ),
        "readout": RegionReadout(config.score_threshold, config.nms_iou, config.num_detections),
        "see_padding": config.parity,
    }


def _anchors(config: FasterRCNNConfig | QueryDetFasterRCNNConfig) -> AnchorShapes:
    """One size and three ratios for each cell."""
    strides = strides_of(config.backbone, config.num_levels)
    return AnchorShapes(tuple((SIZE_IN_STRIDES * stride,) for stride in strides))


def _proposal_loss(
    config: FasterRCNNConfig | QueryDetFasterRCNNConfig, terms: Sequence[tuple[float, DenseTerm]] = ()
) -> AnchorLoss:
    overlap = AnchorOverlap(foreground_iou=0.7, background_iou=0.3)
    return AnchorLoss(
        _anchors(config),
        _Sampled(overlap, BalancedSampling(number=config.proposal_samples, positive_share=0.5)),
        counted_count,
        class_loss=partial(F.binary_cross_entropy_with_logits, reduction="none"),
        box_loss=SmoothL1OfDeltas(beta=0.0),
        terms=terms,
    )
