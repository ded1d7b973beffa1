"""What the cells and regions of a dense detector said before its readout chose, and which cells it computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from smidgen.analysis.dense_observation import DenseSight
from smidgen.analysis.token_coverage import Grid, cells_around, centers_inside, count_in
from smidgen.boxes import clip_to_image, pairwise_iou
from smidgen.boxes.box_coding import decode_deltas
from smidgen.decoder.cascaded_head import ComputedCells, ComputedLevel
from smidgen.structures import Cells, DenseOutput, LevelAnswers, evidence_of
from smidgen.structures.regions import RegionAnswers

RawAnswers = tuple[Tensor, Tensor, Tensor, float]
"""Boxes (xyxy pixels of the network's input), scores of all classes, index of each answer, silence; of one image."""


def dense_answers(output: DenseOutput, readout: Any) -> Iterator[RawAnswers]:
    """For every image, the answers of all regions where the detector has a second stage, else of all cells."""
    regions = evidence_of(output.evidence, RegionAnswers)
    image, boxes, scores = _of_cells(output, readout) if regions is None else _of_regions(regions, readout)
    with_centerness = regions is None and output.levels[0].centerness is not None
    silence = 0.0 if with_centerness else float(readout.score_threshold)
    for number, size_hw in enumerate(output.sizes_hw):
        own = image == number
        cut = clip_to_image(boxes[own], size_hw)
        yield cut, scores[own], torch.arange(len(cut), device=cut.device), silence


def dense_grids(output: DenseOutput, image: int) -> list[Grid]:
    """All cells of the levels over one image; those that begin inside it are valid."""
    height, width = output.sizes_hw[image]
    grids = []
    for answers, stride in zip(output.levels, output.strides, strict=True):
        valid = torch.zeros(answers.shape, dtype=torch.bool, device=answers.logits.device)
        valid[: -(-height // stride), : -(-width // stride)] = True
        grids.append(Grid(stride, (float(stride), float(stride)), valid))
    return grids


def not_queried(
    sight: DenseSight, image: int, boxes_xyxy: Float[Tensor, "M 4"], grids: Sequence[Grid]
) -> Bool[Tensor, " M"] | None:
    """Objects without a cell that answers on the finest level where the cascade owes them one; None without a cascade.

    A level owes cells to the objects that the query map above it is taught to call small.
    """
    computed = evidence_of(sight.output.evidence, ComputedCells)
    if computed is None or not computed.levels or sight.pointing is None:
        return None
    side = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).clamp(min=0).prod(dim=1).sqrt()
    lost = torch.zeros_like(side, dtype=torch.bool)
    # Finest last, so that it has the word on the objects that are small to several levels.
    for level in sorted(computed.levels, key=lambda found: -found.level):
        owed = side < sight.pointing.limits_px.get(level.level + 1, 0.0)
        lost = torch.where(owed, ~_answering(level, image, boxes_xyxy, grids[level.level]), lost)
    return lost


def no_region(sight: DenseSight, image: int, boxes_xyxy: Float[Tensor, "M 4"], iou: float) -> Bool[Tensor, " M"] | None:
    """Objects that no region overlaps at this IoU; None without a second stage."""
    answers = evidence_of(sight.output.evidence, RegionAnswers)
    if answers is None:
        return None
    regions = answers.regions.boxes_xyxy[answers.regions.image == image]
    return ~(pairwise_iou(regions, boxes_xyxy) >= iou).any(dim=0)


def _answering(level: ComputedLevel, image: int, boxes_xyxy: Float[Tensor, "M 4"], grid: Grid) -> Bool[Tensor, " M"]:
    """Objects with a key in their box, or under their center where no cell's center is in the box."""
    keys = level.keys.mask()[image]
    inside = centers_inside(boxes_xyxy, grid)
    none_inside = count_in(torch.ones_like(keys), inside) == 0
    place = torch.where(none_inside[:, None], cells_around(boxes_xyxy, grid), inside)
    return count_in(keys, place) > 0


def _of_cells(
    output: DenseOutput, readout: Any
) -> tuple[Int[Tensor, " N"], Float[Tensor, "N 4"], Float[Tensor, "N K"]]:
    """Image, box and scores of every answer of every level."""
    parts = [
        _of_level(level, answers, stride, readout)
        for level, (answers, stride) in enumerate(zip(output.levels, output.strides, strict=True))
    ]
    image, boxes, scores = (torch.cat(part) for part in zip(*parts, strict=True))
    return image, boxes, scores


def _of_level(level: int, answers: LevelAnswers, stride: int, readout: Any) -> tuple[Tensor, Tensor, Tensor]:
    cells, per_cell = answers.cells, answers.logits.shape[1]
    if cells is None:
        cells = Cells.all_of(answers.batch, answers.shape, answers.logits.device)
    answer = torch.arange(per_cell, device=answers.logits.device).repeat(len(cells))
    each = torch.arange(len(cells), device=answer.device).repeat_interleave(per_cell)
    repeated = Cells(cells.image[each], cells.row[each], cells.column[each], cells.shape, cells.batch)
    boxes = readout.decoder(level, repeated, stride, answer, answers.regression.flatten(0, 1).float())
    return repeated.image, boxes, _scores(answers, float(readout.score_threshold))


def _scores(answers: LevelAnswers, threshold: float) -> Float[Tensor, "N K"]:
    """As the readout scores: class probability, or its geometric mean with centerness, 0 where the probability alone
    is not above the threshold.
    """
    probability = answers.logits.float().sigmoid().flatten(0, 1)
    if answers.centerness is None:
        return probability
    scores = (probability * answers.centerness.float().sigmoid().flatten()[:, None]).sqrt()
    return scores.masked_fill(probability <= threshold, 0.0)


def _of_regions(answers: RegionAnswers, readout: Any) -> tuple[Tensor, Tensor, Tensor]:
    """A box for each region and class, which has a score in that class only."""
    boxes = decode_deltas(
        answers.regions.boxes_xyxy[:, None].expand_as(answers.deltas), answers.deltas, readout.weights
    )
    scores = answers.logits.float().softmax(-1)[:, :-1]
    return (
        answers.regions.image.repeat_interleave(boxes.shape[1]),
        boxes.flatten(0, 1),
        torch.diag_embed(scores).flatten(0, 1),
    )
