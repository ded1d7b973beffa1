"""Parts of the DETR family built from its configuration, so that each system's file shows only what is its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import nn

from smidgen.assignment import HungarianAssignment, solver_called
from smidgen.features.strip_mlp import StripMLPBackbone
from smidgen.features.timm_backbone import TimmBackbone
from smidgen.losses import FocalClassification, GIoULoss, L1Loss, SetLoss, SetTerm, only_foreground
from smidgen.losses.box_regression import PairWeighting
from smidgen.losses.set_loss import EvidenceTerm
from smidgen.models.config import BackboneConfig, SetLossConfig, TransformerConfig
from smidgen.nn.deformable_layers import DeformableDecoderLayer, DeformableEncoderLayer
from smidgen.nn.initialize import box_head, class_head
from smidgen.queries.denoising import ContrastiveDenoising
from smidgen.tokens.deformable_encoder import DeformableEncoder


def backbone(config: BackboneConfig, pretrained: bool) -> TimmBackbone | StripMLPBackbone:
    """The network of the configuration: Strip-MLP in its form for detectors, or any of timm."""
    if config.name.startswith("strip_mlp"):
        return _strip_mlp(config, pretrained)
    return TimmBackbone(
        config.name,
        config.strides,
        norm=config.norm,
        frozen_stages=config.frozen_stages,
        pretrained=pretrained,
        options=config.options,
    )


def _strip_mlp(config: BackboneConfig, pretrained: bool) -> StripMLPBackbone:
    """norm="frozen" keeps the running statistics and trains scale and shift; options: `drop_path` and `rounding`."""
    if pretrained:
        raise RuntimeError(
            f"expected pretrained=False for {config.name!r}, which timm has no weights for; train it as a classifier "
            "and start from that (--init), or from nothing (model.backbone.norm=batch)"
        )
    foreign = sorted(set(config.options) - {"drop_path", "rounding"})
    if foreign:
        raise ValueError(
            f"expected drop_path or rounding in model.backbone.options of {config.name!r}, got {', '.join(foreign)}, "
            "which belong to another backbone; set model.backbone.options={} and model.backbone.norm=batch"
        )
    if config.norm == "group":
        raise ValueError("expected norm 'frozen' or 'batch' for Strip-MLP, got 'group'; change model.backbone.norm")
    norm: Literal["running", "batch"] = "running" if config.norm == "frozen" else "batch"
    return StripMLPBackbone(config.name, config.strides, norm=norm, **config.options)


def encoder_layer(sizes: TransformerConfig, num_levels: int) -> Callable[[], DeformableEncoderLayer]:
    """A maker of encoder layers."""
    return lambda: DeformableEncoderLayer(
        sizes.width, sizes.num_heads, num_levels, sizes.num_points, sizes.feed_forward, sizes.dropout
    )


def deformable_encoder(sizes: TransformerConfig, num_levels: int) -> DeformableEncoder:
    """An encoder over all tokens."""
    return DeformableEncoder(encoder_layer(sizes, num_levels), sizes.encoder_layers)


def decoder_layer(sizes: TransformerConfig, num_levels: int) -> Callable[[], DeformableDecoderLayer]:
    """A maker of decoder layers."""
    return lambda: DeformableDecoderLayer(
        sizes.width, sizes.num_heads, num_levels, sizes.num_points, sizes.feed_forward, sizes.dropout
    )


def heads(
    sizes: TransformerConfig, num_classes: int, size_bias: float = 0.0
) -> tuple[list[nn.Module], list[nn.Module]]:
    """Class and box heads of their own for every decoder layer; `size_bias` of the first box head only."""
    layers = range(sizes.decoder_layers)
    return (
        [class_head(sizes.width, num_classes) for _ in layers],
        [box_head(sizes.width, 0.0 if layer else size_bias) for layer in layers],
    )


def contrastive_denoising(
    config: Any, table_size: int, groups: Literal["clean", "official"] = "clean"
) -> ContrastiveDenoising | None:
    """DINO's denoising by the fields `denoising_queries`, `label_noise`, `box_noise` and `parity` of a configuration.

    table_size: rows of the label table, and groups: the rule for their number in parity mode; the official codes
    differ. In parity mode no object is left out and free slots are supervised as background. None where
    `denoising_queries` is 0.
    """
    if config.denoising_queries == 0:
        return None
    return ContrastiveDenoising(
        config.num_classes,
        config.transformer.width,
        num_queries=config.denoising_queries,
        label_noise=config.label_noise,
        box_noise=config.box_noise,
        table_size=table_size,
        eps=1e-3 if config.parity else 1e-5,
        groups=groups if config.parity else "clean",
        max_objects=None if config.parity else 500,
        mask_free_slots=not config.parity,
    )


def set_loss(
    config: SetLossConfig,
    *,
    giou_eps: float = 0.0,
    log_eps: float = 1e-8,
    binary_proposals: bool = False,
    classification: SetTerm | None = None,
    weighting: PairWeighting | None = None,
    evidence_terms: Sequence[tuple[float, EvidenceTerm]] = (),
    **rules: Any,
) -> SetLoss:
    """Class, L1 and GIoU terms under Hungarian assignment.

    giou_eps: in the denominators of GIoU, 1e-6 in DINO's code. log_eps: in the logarithms of the class cost, 1e-6 in
    the Relation-DETR repository. binary_proposals: proposals learn object / no object on class 0 instead of the
    classes. classification: None = focal. weighting: of the matched pairs' box terms. evidence_terms: further ones.
    rules: of assignment beside the one-to-one rule, see SetLoss.
    """
    terms: list[tuple[float, SetTerm]] = [
        (config.classification, classification or FocalClassification()),
        (config.l1, L1Loss(weighting=weighting)),
        (config.giou, GIoULoss(eps=giou_eps, weighting=weighting)),
    ]
    labels = only_foreground if binary_proposals else None
    assignment = one_to_one(config, giou_eps=giou_eps, log_eps=log_eps)
    return SetLoss(assignment, terms, evidence_terms=evidence_terms, proposal_labels=labels, **rules)


def one_to_one(config: SetLossConfig, *, giou_eps: float = 0.0, log_eps: float = 1e-8) -> HungarianAssignment:
    """Hungarian assignment by the configuration's costs; the others as in `set_loss`."""
    return HungarianAssignment(
        classification=config.cost_classification,
        l1=config.cost_l1,
        giou=config.cost_giou,
        log_eps=log_eps,
        giou_eps=giou_eps,
        solver=solver_called(config.solver),
    )
