"""How likely a small object is near, at every place of an image: maps that two systems make for their own use anyway.

QueryDet's query head points at small objects so that finer levels are computed only there (Yang et al., CVPR 2022,
section 3.3); Salience DETR's encoder refines only the tokens that its salience maps point at (Hou et al., CVPR 2024,
section 3.2). Read here for whoever wants to know where to look.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from smidgen.boxes import full_precision
from smidgen.inference.query_scores import query_scores, why_no_query_scores
from smidgen.structures import DetectorOutput, ImageBatch, evidence_of
from smidgen.tokens.salience_filtering import SalienceFilteredEncoder, SalienceMaps


@dataclass(frozen=True, slots=True)
class ObjectMap:
    """scores: in [0, 1] (below 0 in padding), of each cell of one level of one image. cell_hw: height and width of a
    cell in pixels of the network input; the first cell begins at the image's corner.
    """

    scores: Float[Tensor, "h w"]
    cell_hw: tuple[float, float]


def why_no_object_maps(model: nn.Module) -> str | None:
    """What the model lacks for such maps, in words for people; None where it lacks nothing."""
    if why_no_query_scores(model) is None or _has_salience(model):
        return None
    return "it has neither a query head (query_det...) nor salience maps (salience_detr...)"


def object_maps(model: nn.Module, images: ImageBatch) -> list[ObjectMap]:
    """A map for each level, of a batch of one image with uint8 pixels on the model's device, in evaluation mode.

    Raises ValueError for a model without such maps.
    """
    reason = why_no_object_maps(model)
    if reason is not None:
        raise ValueError(f"expected a model with maps of where small objects are, but {reason}")
    return _salience(model, images) if _has_salience(model) else _queries(model, images)


def _has_salience(model: nn.Module) -> bool:
    return any(isinstance(module, SalienceFilteredEncoder) for module in model.modules())


def _queries(model: nn.Module, images: ImageBatch) -> list[ObjectMap]:
    found = query_scores(model, images)
    return [
        ObjectMap(scores[0], (found.strides[level], found.strides[level])) for level, scores in found.scores.items()
    ]


def _salience(model: Any, images: ImageBatch) -> list[ObjectMap]:
    output: DetectorOutput = model(images)
    maps = evidence_of(output.evidence, SalienceMaps)
    assert maps is not None  # the encoder leaves them
    height, width = maps.canvas_hw
    return [
        ObjectMap(full_precision(level[0]).sigmoid(), (height / level.shape[-2], width / level.shape[-1]))
        for level in maps.logits
    ]
