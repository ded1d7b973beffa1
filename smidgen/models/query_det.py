"""QueryDet: where a coarse map sees a small object near, and only there, finer levels are computed.

Chenhongyi Yang, Zehao Huang, Naiyan Wang, "QueryDet: Cascaded Sparse Query for Accelerating High-Resolution Small
Object Detection", CVPR 2022. On RetinaNet (`query_det`): level P2, level weights and a query head in training, the
cascade in evaluation. On FCOS (`query_det_fcos`, table 8), whose code was not published: the same on
`smidgen.models.fcos`. Where paper and released code differ (weights, radius, taught levels) the code is followed;
options have the paper's. Here batches and images may have any size. `cascade=None` computes everything ("QueryDet
dense" in the tables).

parity=True switches to what the official code does: heads read the canvas's padding, whose cells also propose
and query, and an object that lies between the centers of cells is taught to no cell (small_objects.own_cell).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from smidgen.assignment.anchor_overlap import AnchorOverlap
from smidgen.assignment.center_sampling import CenterSampling
from smidgen.decoder.dense_head import DenseHead, QueryHead
from smidgen.decoder.dense_readout import AnchorBoxes
from smidgen.features.feature_pyramid import FeaturePyramidNetwork
from smidgen.losses.dense_loss import AnchorLoss, PointLoss
from smidgen.losses.level_weights import LevelWeighting, level_weights
from smidgen.losses.positive_count import RunningPositiveCount, positive_count
from smidgen.models.config import BackboneConfig
from smidgen.models.dense import DenseDetector
from smidgen.models.dense_config import (
    FROM_P2,
    PADDED,
    BoxLossName,
    CascadeConfig,
    DenseReadoutConfig,
    SmallObjectConfig,
    TowerNorm,
)
from smidgen.models.dense_parts import (
    backbone,
    box_loss,
    dense_readout,
    octave_anchors,
    querying,
    small_object_term,
    strides_of,
    tower_norm,
)
from smidgen.models.fcos import limits_px, point_head, point_readout
from smidgen.structures import Preprocessing

SMALLEST_ANCHOR = 4.0
"""s_l in strides of the level: RetinaNet's smallest anchor, and the lower end of FCOS's range from P3 on."""


@dataclass(frozen=True, kw_only=True)
class QueryDetConfig:
    """Defaults: QueryDet-R50 on COCO as released (40,934,069 parameters with 80 classes); VisDrone's differences are in
    the fields' descriptions.

    level_weights: "released_coco", "released_visdrone", the paper's "linear" or factors. box_loss: see
    `smidgen.models.retinanet.RetinaNetConfig`. cascade: None = everything.
    """

    num_classes: int
    backbone: BackboneConfig = field(default_factory=lambda: FROM_P2)
    num_levels: int = 6
    width: int = 256
    head_layers: int = 4
    level_weights: LevelWeighting | tuple[float, ...] = "released_coco"
    box_loss: BoxLossName = "smooth_l1"
    small_objects: SmallObjectConfig = field(default_factory=SmallObjectConfig)
    cascade: CascadeConfig | None = field(default_factory=CascadeConfig)
    readout: DenseReadoutConfig = field(
        default_factory=lambda: DenseReadoutConfig(score_threshold=1e-4, num_detections=200)
    )
    preprocessing: Preprocessing = field(default_factory=lambda: PADDED)
    parity: bool = False


@dataclass(frozen=True, kw_only=True)
class QueryDetFCOSConfig:
    """Defaults: our reading of table 8. norm: see `smidgen.models.fcos.FCOSConfig`."""

    num_classes: int
    backbone: BackboneConfig = field(default_factory=lambda: FROM_P2)
    num_levels: int = 6
    width: int = 256
    head_layers: int = 4
    norm: TowerNorm = "merged"
    level_weights: LevelWeighting | tuple[float, ...] = "released_coco"
    small_objects: SmallObjectConfig = field(default_factory=SmallObjectConfig)
    cascade: CascadeConfig | None = field(default_factory=CascadeConfig)
    readout: DenseReadoutConfig = field(default_factory=lambda: DenseReadoutConfig(nms_iou=0.6))
    preprocessing: Preprocessing = field(default_factory=lambda: PADDED)
    parity: bool = False


def query_det(config: QueryDetConfig, pretrained: bool = False) -> DenseDetector:
    """Build the network; `pretrained` asks timm or torchvision for backbone weights."""
    body = backbone(config.backbone, pretrained)
    anchors = octave_anchors(strides_of(config.backbone, config.num_levels))
    return DenseDetector(
        preprocessing=config.preprocessing,
        backbone=body,
        neck=FeaturePyramidNetwork(body.channels, config.width, top="c5", num_levels=config.num_levels),
        head=DenseHead(config.width, config.num_classes, anchors.num_anchors, config.head_layers),
        querying=querying(
            QueryHead(config.width, config.head_layers), config.small_objects, config.cascade, config.num_levels
        ),
        readout=dense_readout(AnchorBoxes(anchors), config.readout, config.parity),
        see_padding=config.parity,
    )


def query_det_criterion(config: QueryDetConfig) -> AnchorLoss:
    """Focal and smooth L1 losses with level weights, and the query maps' loss."""
    return AnchorLoss(
        octave_anchors(strides_of(config.backbone, config.num_levels)),
        AnchorOverlap(),
        RunningPositiveCount(),
        level_weights=level_weights(config.level_weights, config.num_levels),
        box_loss=box_loss(config.box_loss),
        terms=[small_object_term(config.small_objects, SMALLEST_ANCHOR, config.parity)],
    )


def query_det_fcos(config: QueryDetFCOSConfig, pretrained: bool = False) -> DenseDetector:
    """Build the network; `pretrained` asks timm or torchvision for backbone weights."""
    body, strides = backbone(config.backbone, pretrained), strides_of(config.backbone, config.num_levels)
    query_head = QueryHead(config.width, config.head_layers, tower_norm(config.norm))
    return DenseDetector(
        preprocessing=config.preprocessing,
        backbone=body,
        neck=FeaturePyramidNetwork(body.channels, config.width, top="p5", num_levels=config.num_levels),
        head=point_head(config.width, config.num_classes, config.head_layers, strides, config.norm),
        querying=querying(query_head, config.small_objects, config.cascade, config.num_levels),
        readout=point_readout(config.readout, config.parity),
        see_padding=config.parity,
    )


def query_det_fcos_criterion(config: QueryDetFCOSConfig) -> PointLoss:
    """FCOS's losses with level weights, and the query maps' loss."""
    return PointLoss(
        CenterSampling(limits_px=limits_px(strides_of(config.backbone, config.num_levels))),
        positive_count,
        level_weights=level_weights(config.level_weights, config.num_levels),
        terms=[small_object_term(config.small_objects, SMALLEST_ANCHOR, config.parity)],
    )
