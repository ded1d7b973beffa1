"""What a detector of the DETR family decided about an object's tokens: refined, computed, selected as queries.

Read from the evidence by its type: salience filtering (Hou et al., "Salience DETR", CVPR 2024), a sparse finest level
(after Yang et al., "QueryDet", CVPR 2022), and the places of a two-stage selection. What left no evidence did not
happen.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from smidgen.analysis.observation import Observation
from smidgen.analysis.token_coverage import Grid, Homes
from smidgen.boxes import cxcywh_to_xyxy, full_precision, pairwise_iou
from smidgen.queries.proposals import base_boxes
from smidgen.structures import Tokens, evidence_of
from smidgen.tokens.salience_filtering import SalienceMaps
from smidgen.tokens.sparse_finest_level import FinestLevel


def token_grids(observation: Observation, image: int) -> list[Grid]:
    """The levels over one image; valid: cells that show it and, where queries start at cells, may propose."""
    tokens = observation.tokens
    if tokens is None:
        return []
    two_stage = observation.output.token_index is not None
    valid = (base_boxes(tokens)[1] if two_stage else ~tokens.padding)[image]
    height, width = observation.images.sizes[image]
    grids = []
    for level, mask in enumerate(_by_level(valid, tokens)):
        share_x, share_y = tokens.valid_share[image, level].tolist()
        cell_wh = width / (share_x * mask.shape[1]), height / (share_y * mask.shape[0])
        grids.append(Grid(tokens.strides[level], cell_wh, mask))
    return grids


def not_refined(observation: Observation, image: int, homes: Homes) -> Bool[Tensor, " M"] | None:
    """Objects with cells on the levels that a salience-filtered encoder judged, none of whose cells was ever refined;
    None without salience filtering. A sparse finest level is refined by others: its chosen cells count.
    """
    maps, tokens = evidence_of(observation.output.evidence, SalienceMaps), observation.tokens
    if maps is None or tokens is None:
        return None
    # An encoder over the coarser levels only counts its tokens without the finest.
    first = tokens.starts[len(tokens.shapes) - len(maps.logits)]
    judged = torch.arange(tokens.starts[-1], device=tokens.padding.device) >= first
    refined = torch.zeros_like(tokens.padding[image])
    for layer in maps.refined:
        refined[layer.index[image][~layer.padding[image]] + first] = True
    finest = evidence_of(observation.output.evidence, FinestLevel)
    if finest is not None:
        refined[finest.chosen.index[image][~finest.chosen.padding[image]]] = True
    return homes.any_of(_by_level(judged, tokens)) & ~homes.any_of(_by_level(refined, tokens))


def not_computed(observation: Observation, image: int, homes: Homes) -> Bool[Tensor, " M"] | None:
    """Objects whose cells are all on the finest level and all left out of it; None where it is not sparse."""
    finest, tokens = evidence_of(observation.output.evidence, FinestLevel), observation.tokens
    if finest is None or tokens is None:
        return None
    computed = torch.ones_like(tokens.padding[image])
    computed[: tokens.starts[1]] = False
    computed[finest.chosen.index[image][~finest.chosen.padding[image]]] = True
    return ~homes.any_of(_by_level(computed, tokens))


def started_at(
    observation: Observation, image: int, boxes_xyxy: Float[Tensor, "M 4"], homes: Homes, iou: float
) -> Bool[Tensor, "Q M"] | None:
    """Which queries started at the objects' places: from one of their cells, or with a start box that overlaps them at
    this IoU. None where queries start at learned places.
    """
    output, tokens, places = observation.output, observation.tokens, observation.places
    if output.token_index is None or output.level is None or tokens is None:
        return None
    token, level = output.token_index[image], output.level[image]
    offset = token - torch.tensor(tokens.starts[:-1], device=token.device)[level]
    columns = torch.tensor([shape[1] for shape in tokens.shapes], device=token.device)[level]
    started = homes.hold(level, offset // columns, offset % columns)
    if places is not None and places.reference.shape[-1] == 4:
        starts = places.reference[image]
        height, width = observation.images.sizes[image]
        in_pixels = cxcywh_to_xyxy(full_precision(starts)) * boxes_xyxy.new_tensor([width, height, width, height])
        started = started | (pairwise_iou(in_pixels, boxes_xyxy) >= iou)
    padding = output.final.padding
    return started if padding is None else started & ~padding[image][:, None]


def _by_level(mask: Bool[Tensor, " N"], tokens: Tokens) -> Sequence[Bool[Tensor, "H W"]]:
    """A mask of all tokens as one map for each level."""
    parts = zip(pairwise(tokens.starts), tokens.shapes, strict=True)
    return [mask[start:stop].view(shape) for (start, stop), shape in parts]
