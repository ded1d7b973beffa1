"""What a query head says of every cell of the levels it was taught on: is a small object near?

Yang et al., "QueryDet: Cascaded Sparse Query for Accelerating High-Resolution Small Object Detection", CVPR 2022,
section 3.3. In evaluation the cascade asks only where the level above pointed; here every cell is asked, so that the
answer of any threshold can be read from one pass of backbone, neck and query head.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from smidgen.boxes import full_precision
from smidgen.losses.small_object_map import SmallObjectLoss
from smidgen.models import create_criterion
from smidgen.structures import FeaturePyramid, ImageBatch

NOWHERE = -1.0
"""In place of the score of a cell in the padding: below every threshold."""


@dataclass(frozen=True, slots=True)
class QueryScores:
    """Scores in [0, 1] of all cells, by index of the level (`NOWHERE` in the padding).

    strides, shapes: of all levels of the pyramid, finest first. padding: of all levels, None = all cells are read.
    """

    scores: dict[int, Float[Tensor, "B _ _"]]
    strides: tuple[int, ...]
    shapes: tuple[tuple[int, int], ...]
    padding: tuple[Bool[Tensor, "B _ _"], ...] | None

    def visible(self, level: int, values: Float[Tensor, "B H W"]) -> Float[Tensor, "B H W"]:
        """The values, `NOWHERE` in the level's padding."""
        return values if self.padding is None else values.masked_fill(self.padding[level], NOWHERE)


def why_no_query_scores(model: nn.Module) -> str | None:
    """What the model lacks for such maps, in words for people; None where it lacks nothing."""
    return "it has no query head (query_det...)" if getattr(model, "query_head", None) is None else None


def query_scores(model: nn.Module, images: ImageBatch) -> QueryScores:
    """The maps of images with uint8 pixels on the model's device. ValueError for a model without a query head."""
    detector: Any = model
    return query_scores_on(model, detector.neck(detector.backbone(images.normalized(detector.preprocessing))))


def query_scores_on(model: nn.Module, pyramid: FeaturePyramid) -> QueryScores:
    """The maps from the neck's levels on. Raises ValueError for a model without a query head."""
    reason = why_no_query_scores(model)
    if reason is not None:
        raise ValueError(f"expected a model whose query head points at small objects, but {reason}")
    detector: Any = model
    levels = detector.querying.supervised
    padding = None if detector.see_padding else tuple(pyramid.padding)
    hidden = None if padding is None else [padding[level] for level in levels]
    logits = detector.query_head.on_levels([pyramid.levels[level] for level in levels], hidden)
    unmasked = QueryScores({}, pyramid.strides, pyramid.shapes, padding)
    scores = {
        level: unmasked.visible(level, full_precision(one).sigmoid()) for level, one in zip(levels, logits, strict=True)
    }
    return QueryScores(scores, pyramid.strides, pyramid.shapes, padding)


def taught_maps(model: nn.Module) -> SmallObjectLoss:
    """What the maps were taught: the small-object term of the model's criterion. ValueError where there is none."""
    criterion = create_criterion(model)
    found = next((term for term in _terms(criterion) if isinstance(term, SmallObjectLoss)), None)
    if found is None:
        raise ValueError(f"expected a model whose query maps were taught small objects, got {type(model).__name__}")
    return found


def _terms(criterion: nn.Module) -> Iterable[object]:
    """Further terms of a dense criterion, or of the first stage's."""
    first: Any = getattr(criterion, "first", criterion)
    return [term for _, term in getattr(first, "terms", ())]
