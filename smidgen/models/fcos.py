"""FCOS: every cell inside an object says how far its sides are; no anchors.

Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019, with the later improvements of its
authors' code: center sampling, centerness on the box tower, distances by ReLU, GIoU loss. Their towers have group
norms, which cannot be computed at chosen cells; QueryDet's leftover head has batch norms merged over levels, and so
have these.

parity=True switches to what the official codes do: heads read the canvas's padding, whose cells also propose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from smidgen.assignment.center_sampling import CenterSampling
from smidgen.decoder.dense_head import DenseHead, ScaledDistances
from smidgen.decoder.dense_readout import DenseReadout, PointBoxes
from smidgen.features.feature_pyramid import FeaturePyramidNetwork
from smidgen.losses.dense_loss import PointLoss
from smidgen.losses.level_weights import LevelWeighting, level_weights
from smidgen.losses.positive_count import positive_count
from smidgen.models.config import BackboneConfig
from smidgen.models.dense import DenseDetector
from smidgen.models.dense_config import PADDED, DenseReadoutConfig, TowerNorm
from smidgen.models.dense_parts import backbone, dense_readout, strides_of, tower_norm
from smidgen.structures import Preprocessing


@dataclass(frozen=True, kw_only=True)
class FCOSConfig:
    """Defaults: FCOS-R50 as QueryDet's baseline (its table 8). norm: of the towers, "merged" or "none"."""

    num_classes: int
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    num_levels: int = 5
    width: int = 256
    head_layers: int = 4
    norm: TowerNorm = "merged"
    level_weights: LevelWeighting | tuple[float, ...] = "uniform"
    readout: DenseReadoutConfig = field(default_factory=lambda: DenseReadoutConfig(nms_iou=0.6))
    preprocessing: Preprocessing = field(default_factory=lambda: PADDED)
    parity: bool = False


def fcos(config: FCOSConfig, pretrained: bool = False) -> DenseDetector:
    """Build the network; `pretrained` asks timm or torchvision for backbone weights."""
    body, strides = backbone(config.backbone, pretrained), strides_of(config.backbone, config.num_levels)
    return DenseDetector(
        preprocessing=config.preprocessing,
        backbone=body,
        neck=FeaturePyramidNetwork(body.channels, config.width, top="p5", num_levels=config.num_levels),
        head=point_head(config.width, config.num_classes, config.head_layers, strides, config.norm),
        readout=point_readout(config.readout, config.parity),
        see_padding=config.parity,
    )


def fcos_criterion(config: FCOSConfig) -> PointLoss:
    """Focal, GIoU and centerness losses of all levels."""
    return PointLoss(
        CenterSampling(limits_px=limits_px(strides_of(config.backbone, config.num_levels))),
        positive_count,
        level_weights=level_weights(config.level_weights, config.num_levels),
    )


def point_head(width: int, num_classes: int, num_layers: int, strides: Sequence[int], norm: TowerNorm) -> DenseHead:
    """One answer for each cell, with centerness; distances = stride x relu(scale x raw)."""
    return DenseHead(
        width,
        num_classes,
        num_anchors=1,
        num_layers=num_layers,
        centerness=True,
        regression=ScaledDistances(strides),
        norm=tower_norm(norm),
    )


def point_readout(config: DenseReadoutConfig, parity: bool) -> DenseReadout:
    """Boxes around the centers of cells."""
    return dense_readout(PointBoxes(), config, parity)


def limits_px(strides: Sequence[int]) -> tuple[float, ...]:
    """The largest distance to a side on each level: eight cells (64 px on P3), on the coarsest any."""
    return (*(8.0 * stride for stride in strides[:-1]), math.inf)
