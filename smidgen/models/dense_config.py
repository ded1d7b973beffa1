"""Settings that the systems of the dense family share. Defaults are those of the papers (R50)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from smidgen.decoder.cascaded_head import QUERY_METHODS
from smidgen.models.config import BackboneConfig
from smidgen.structures import Preprocessing
from smidgen.tokens.cascade_sparse_query import CascadeSparseQuery

TowerNorm: TypeAlias = Literal["none", "merged"]
BoxLossName: TypeAlias = Literal["smooth_l1", "giou"]

PAPERS_THRESHOLD = 0.15
FROM_P2 = BackboneConfig(strides=(4, 8, 16, 32))
PADDED = Preprocessing(pad_multiple=32)
"""RGB and ImageNet statistics for torchvision's weights; sides a multiple of 32, so that P2 to P5 halve exactly. The
official weights are Caffe's: BGR, mean (103.53, 116.28, 123.675) and no scale, and stride 2 in the first 1x1."""


@dataclass(frozen=True, kw_only=True)
class CascadeConfig:
    """Which cells of the finest levels are computed in evaluation (QueryDet, section 3.3).

    threshold: 0.15 in the paper, 0.12 in the released configurations; "recall:0.99" stands for the one that keeps this
    share of the validation images' small objects, which `smidgen train` puts in its place at the end (see
    `smidgen.recipes.cascade_threshold`). context: cells around each key that are computed, too (5x5, table
    6). start: index of the level whose dense query map starts the cascade (P4, table 4). budget: keys of an image at
    most, as a number or a share of its cells on the level; None = any. method: "csq" (sparse convolutions), "cq"
    (crops) or "ccq" (the whole level, read at the keys), table 5.
    """

    threshold: float | str = PAPERS_THRESHOLD
    context: int = 2
    start: int = 2
    budget: int | float | None = None
    method: Literal["csq", "cq", "ccq"] = "csq"

    def __post_init__(self) -> None:
        if isinstance(self.threshold, str):
            wanted_recall(self)

    def built(self) -> dict[str, Any]:
        """As arguments of `smidgen.models.dense.Querying`."""
        if isinstance(self.threshold, str):
            raise ValueError(
                f"expected a number to build the cascade, got model.cascade.threshold={self.threshold!r}, which only a "
                "trained model can be asked for: `smidgen train` chooses it on the validation images, and `python -m "
                "smidgen.recipes.cascade_threshold RUN --data DATA --out FOLDER` for a model that is trained already"
            )
        cascade = CascadeSparseQuery(self.threshold, self.context, self.start, self.budget)
        return {"cascade": cascade, "method": QUERY_METHODS[self.method]}


def wanted_recall(cascade: CascadeConfig | None) -> float | None:
    """The share of small objects that the threshold has to keep; None where it is a number. ValueError for others."""
    if cascade is None or not isinstance(cascade.threshold, str):
        return None
    word, _, share = cascade.threshold.partition(":")
    try:
        recall = float(share) if word == "recall" else math.nan
    except ValueError:
        recall = math.nan
    if not 0 < recall <= 1:
        raise ValueError(
            'expected model.cascade.threshold to be a score or, as in "recall:0.99", a share of small objects to keep, '
            f"got {cascade.threshold!r}"
        )
    return recall


@dataclass(frozen=True, kw_only=True)
class SmallObjectConfig:
    """What the query head learns and how much it weighs.

    levels: indices of the levels whose maps are taught (P3 and P4; the cascade reads from its start down to 1). weight:
    10 in the released code, on the mean over cells. gamma: 1.2 on COCO, 1.3 on VisDrone. radius: of the objects in the
    maps, the "object"'s own size (released code) or the level's "threshold" (the paper's equation 3). own_cell: whether
    the cell of an object's center is always one of its own (in parity mode it is not: the released code teaches more
    than half of the objects of 6 px to no cell of P4, so that the cascade, which starts there, never learns to look).
    limit: s_l in strides of the level; None = the system's own.
    """

    levels: tuple[int, ...] = (1, 2)
    weight: float = 10.0
    gamma: float = 1.2
    radius: Literal["object", "threshold"] = "object"
    own_cell: bool = True
    limit: float | None = None


@dataclass(frozen=True, kw_only=True)
class DenseReadoutConfig:
    """candidates: best (answer, class) pairs of a level. score_threshold: 0.05 in the baseline, 0.0001 in QueryDet's
    configurations. num_detections: 100, 200 in QueryDet's (COCO's metric looks at 100), 500 on VisDrone.
    """

    score_threshold: float = 0.05
    candidates: int = 1000
    nms_iou: float = 0.5
    num_detections: int = 100
