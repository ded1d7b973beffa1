"""RetinaNet: focal loss lets every anchor of a pyramid learn, in one stage.

Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017. As in detectron2, which QueryDet builds on, sums are
divided by a running mean of the number of positives. QueryDet's baseline has P3..P7; `backbone.strides` from 4 and
`num_levels=6` add P2 (its table 3).

parity=True switches to what the official codes do: heads read the canvas's padding, whose cells also propose.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from smidgen.assignment.anchor_overlap import AnchorOverlap
from smidgen.decoder.dense_head import DenseHead
from smidgen.decoder.dense_readout import AnchorBoxes
from smidgen.features.feature_pyramid import FeaturePyramidNetwork
from smidgen.losses.dense_loss import AnchorLoss
from smidgen.losses.level_weights import LevelWeighting, level_weights
from smidgen.losses.positive_count import RunningPositiveCount
from smidgen.models.config import BackboneConfig
from smidgen.models.dense import DenseDetector
from smidgen.models.dense_config import PADDED, BoxLossName, DenseReadoutConfig
from smidgen.models.dense_parts import backbone, box_loss, dense_readout, octave_anchors, strides_of
from smidgen.structures import Preprocessing


@dataclass(frozen=True, kw_only=True)
class RetinaNetConfig:
    """Defaults: RetinaNet-R50 as QueryDet's baseline (37,915,572 parameters with 80 classes).

    width, head_layers: of pyramid and towers (section 4). level_weights: a preset or a factor for each level; uniform
    in RetinaNet, QueryDet's re-balance on P3..P7 is "linear" (table 3). box_loss: "smooth_l1" (beta 0.1) or "giou", an
    option of the released code.
    """

    num_classes: int
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    num_levels: int = 5
    width: int = 256
    head_layers: int = 4
    level_weights: LevelWeighting | tuple[float, ...] = "uniform"
    box_loss: BoxLossName = "smooth_l1"
    readout: DenseReadoutConfig = field(default_factory=DenseReadoutConfig)
    preprocessing: Preprocessing = field(default_factory=lambda: PADDED)
    parity: bool = False


def retinanet(config: RetinaNetConfig, pretrained: bool = False) -> DenseDetector:
    """Build the network; `pretrained` asks timm or torchvision for backbone weights."""
    body = backbone(config.backbone, pretrained)
    anchors = octave_anchors(strides_of(config.backbone, config.num_levels))
    return DenseDetector(
        preprocessing=config.preprocessing,
        backbone=body,
        neck=FeaturePyramidNetwork(body.channels, config.width, top="c5", num_levels=config.num_levels),
        head=DenseHead(config.width, config.num_classes, anchors.num_anchors, config.head_layers),
        readout=dense_readout(AnchorBoxes(anchors), config.readout, config.parity),
        see_padding=config.parity,
    )


def retinanet_criterion(config: RetinaNetConfig) -> AnchorLoss:
    """Focal and smooth L1 losses of all levels."""
    strides = strides_of(config.backbone, config.num_levels)
    return AnchorLoss(
        octave_anchors(strides),
        AnchorOverlap(),
        RunningPositiveCount(),
        level_weights=level_weights(config.level_weights, config.num_levels),
        box_loss=box_loss(config.box_loss),
    )
