"""Parts of the dense family built from its configuration, so that each system's file shows only what is its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from smidgen.boxes.anchors import AnchorShapes, octave_sizes
from smidgen.decoder.dense_readout import BoxDecoder, DenseReadout
from smidgen.features.strip_mlp import StripMLPBackbone
from smidgen.features.timm_backbone import TimmBackbone
from smidgen.features.torchvision_backbone import NAMES, ShuffleNetBackbone
from smidgen.losses.dense_loss import BoxLoss, DenseTerm, SmoothL1OfDeltas, giou_of_deltas
from smidgen.losses.small_object_map import SmallObjectLoss
from smidgen.models import parts
from smidgen.models.config import BackboneConfig
from smidgen.models.dense import Querying, QueryMaps
from smidgen.models.dense_config import BoxLossName, CascadeConfig, DenseReadoutConfig, SmallObjectConfig, TowerNorm
from smidgen.nn.merged_batch_norm import MergedBatchNorm


def backbone(config: BackboneConfig, pretrained: bool) -> TimmBackbone | StripMLPBackbone | ShuffleNetBackbone:
    """As `smidgen.models.parts.backbone`, and torchvision's ShuffleNetV2, which timm lacks."""
    if config.name not in NAMES:
        return parts.backbone(config, pretrained)
    if config.norm == "group":
        raise ValueError(
            f"expected norm 'frozen' or 'batch' for {config.name}, got 'group'; change model.backbone.norm"
        )
    return ShuffleNetBackbone(
        config.name, config.strides, norm=config.norm, frozen_stages=config.frozen_stages, pretrained=pretrained
    )


def strides_of(config: BackboneConfig, num_levels: int) -> tuple[int, ...]:
    """Pixels per cell of each level: the backbone's maps, then doubled."""
    strides = list(config.strides)
    while len(strides) < num_levels:
        strides.append(2 * strides[-1])
    return tuple(strides)


def octave_anchors(strides: Sequence[int]) -> AnchorShapes:
    """RetinaNet's nine anchors of each cell, the smallest four cells wide: 32 px on P3."""
    return AnchorShapes(octave_sizes([4.0 * stride for stride in strides]))


def tower_norm(norm: TowerNorm) -> Callable[[int], MergedBatchNorm] | None:
    """A maker of the norms of a tower, None for none."""
    return MergedBatchNorm if norm == "merged" else None


def box_loss(name: BoxLossName) -> BoxLoss:
    """The loss of an anchor's box."""
    return giou_of_deltas if name == "giou" else SmoothL1OfDeltas()


def dense_readout(decoder: BoxDecoder, config: DenseReadoutConfig, parity: bool) -> DenseReadout:
    """Candidates by score, then suppression; in parity mode cells in the padding propose, too."""
    return DenseReadout(
        decoder,
        config.score_threshold,
        config.candidates,
        config.nms_iou,
        config.num_detections,
        padded_cells=parity,
    )


def querying(
    head: QueryMaps, small_objects: SmallObjectConfig, cascade: CascadeConfig | None, num_levels: int
) -> Querying:
    """The query head with what its maps choose. ValueError where there is no such level, or where one that the cascade
    reads is not taught.
    """
    taught = set(small_objects.levels)
    if not taught or taught - set(range(num_levels)):
        raise ValueError(
            f"expected query maps of some of the levels 0 to {num_levels - 1}, got "
            f"model.small_objects.levels={small_objects.levels}"
        )
    if cascade is None:
        return Querying(head, small_objects.levels)
    if set(range(1, cascade.start + 1)) - taught:
        raise ValueError(
            f"expected the query maps of levels 1 to {cascade.start} to be taught for a cascade that starts at "
            f"model.cascade.start={cascade.start}, got model.small_objects.levels={small_objects.levels}"
        )
    return Querying(head, small_objects.levels, **cascade.built())


def small_object_term(config: SmallObjectConfig, limit_in_strides: float, parity: bool) -> tuple[float, DenseTerm]:
    """The query maps' loss with its weight; limit_in_strides: the system's, where the configuration has none. In parity
    mode objects between the centers of cells are taught to nobody.
    """
    limit = limit_in_strides if config.limit is None else config.limit
    own_cell = config.own_cell and not parity
    loss = SmallObjectLoss(limit_in_strides=limit, radius=config.radius, own_cell=own_cell, gamma=config.gamma)
    return config.weight, loss
