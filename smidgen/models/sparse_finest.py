"""A sparse finest level as an option of DETR-family systems: its configuration, its encoder and its loss.

Yang, Huang and Wang, "QueryDet", CVPR 2022, for the mechanism (tokens/sparse_finest_level.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from smidgen.losses.finest_level import FinestLevelLoss
from smidgen.losses.set_loss import EvidenceTerm
from smidgen.models.parts import encoder_layer
from smidgen.tokens.active_encoder import ActiveEncoder
from smidgen.tokens.coarse_first import CoarseFirst
from smidgen.tokens.sparse_finest_level import EncoderOfActive, FinestLevelQuery, SparseFinestLevel


@dataclass(frozen=True, kw_only=True)
class SparseFinestConfig:
    """share, context, threshold: which cells, see SparseFinestLevel. stand_in: what attention reads at the others, see
    ActiveEncoder. largest_px, radius, gamma: of what the query map learns, see FinestLevelLoss; weight: of that loss
    (QueryDet's).

    own_layers: 0 = chosen tokens join the other levels in the encoder's own layers, as queries and values; n = the
    other levels are encoded without them, and n further layers refine them, reading all levels. None = the system's
    way: DINO 0; Salience DETR, whose encoder filters and fuses the levels it gets, 2.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    share: float = 0.05
    context: int = 0
    threshold: float = 0.0
    stand_in: Literal["zero", "projected"] = "zero"
    own_layers: int | None = None
    largest_px: float = 32.0
    radius: float = 1.0
    gamma: float = 1.2
    weight: float = 10.0


def joined_encoder(config: Any) -> SparseFinestLevel:
    """Chosen tokens take part in the encoder's own layers."""
    option, sizes = config.sparse_finest, config.transformer
    layer = encoder_layer(sizes, config.num_levels)
    return _sparse(config, ActiveEncoder(layer, sizes.encoder_layers, stand_in=option.stand_in))


def coarse_first_encoder(config: Any, coarse: nn.Module, own_layers: int) -> SparseFinestLevel:
    """`coarse` encodes all levels but the finest; chosen tokens have `own_layers` of their own after it."""
    layer = encoder_layer(config.transformer, config.num_levels)
    finest = ActiveEncoder(layer, own_layers, stand_in=config.sparse_finest.stand_in, queries="finest")
    return _sparse(config, CoarseFirst(coarse, finest))


def _sparse(config: Any, encoder: EncoderOfActive) -> SparseFinestLevel:
    option = config.sparse_finest
    return SparseFinestLevel(
        FinestLevelQuery(config.transformer.width),
        encoder,
        share=option.share,
        context=option.context,
        threshold=option.threshold,
    )


def finest_level_terms(config: Any) -> list[tuple[float, EvidenceTerm]]:
    """The loss of the query map and its weight; nothing where the option is off."""
    option: SparseFinestConfig | None = config.sparse_finest
    if option is None:
        return []
    term = FinestLevelLoss(largest_px=option.largest_px, radius=option.radius, gamma=option.gamma)
    return [(option.weight, term)]


def check_sparse_finest(config: Any) -> None:
    """Raise ValueError where the option does not fit the rest of the configuration, before data is read."""
    if config.sparse_finest is None:
        return
    if config.backbone.strides[0] != 4 or config.num_levels < 2:
        raise ValueError(
            "expected levels from stride 4 on where model.sparse_finest is set, got strides "
            f"{config.backbone.strides} and {config.num_levels} levels; choose a 5scale model, or change "
            "model.backbone.strides and model.num_levels"
        )
    if config.sparse_finest.own_layers is not None and config.sparse_finest.own_layers < 0:
        raise ValueError(
            "expected 0 or more layers for the finest level, got "
            f"own_layers={config.sparse_finest.own_layers}; change model.sparse_finest"
        )
    if config.parity:
        raise ValueError(
            "expected model.parity=False where model.sparse_finest is set, since the official codes have nothing like "
            "it and would select tokens that do not exist; change model.parity"
        )
