"""From anchors to regions, and from regions to detections."""

from __future__ import annotations

from dataclasses import replace

import torch

from smidgen.boxes.anchors import AnchorShapes
from smidgen.decoder.region_proposals import RegionProposals
from smidgen.decoder.region_readout import RegionReadout
from smidgen.structures import Cells, Classes, DenseOutput, LevelAnswers
from smidgen.structures.regions import RegionAnswers, Regions

ANCHORS = AnchorShapes(((8.0,),), ratios=(1.0,), offset=0.5)
CLASSES = Classes(("car", "boat"), (3, 7))


def _output(logits: torch.Tensor, sizes_hw: tuple[tuple[int, int], ...], cells: Cells | None = None) -> DenseOutput:
    """One level of 4 x 4 cells of 8 px whose anchors are the cells themselves."""
    answers = LevelAnswers(logits[:, None, None], torch.zeros(len(logits), 1, 4), None, (4, 4), len(sizes_hw), cells)
    return DenseOutput((answers,), (8,), (32, 32), sizes_hw)


def _second_stage(answers: RegionAnswers, batch: int) -> DenseOutput:
    """Of images of 20 x 20 px on a canvas of 32."""
    return replace(_output(torch.zeros(16 * batch), ((20, 20),) * batch), evidence=(answers,))


def test_the_best_anchors_become_regions_image_by_image() -> None:
    logits = torch.arange(32.0)
    regions = RegionProposals(ANCHORS, num_regions=2)(_output(logits, ((32, 32), (32, 32))))
    assert regions.image.tolist() == [0, 0, 1, 1]
    assert regions.boxes_xyxy.tolist() == [[24, 24, 32, 32], [16, 24, 24, 32]] * 2


def test_cells_in_the_padding_propose_nothing_and_regions_end_with_the_image() -> None:
    regions = RegionProposals(ANCHORS)(_output(torch.arange(16.0), ((12, 20),)))
    assert len(regions) == 6
    assert (regions.boxes_xyxy[:, 2:] <= torch.tensor([20, 12])).all()


def test_chosen_cells_give_the_regions_they_would_give_among_all() -> None:
    logits = torch.arange(32.0).masked_fill(torch.arange(32) % 3 > 0, -torch.inf)
    cells = Cells.where(logits.isfinite().view(2, 4, 4))
    sizes = ((32, 32), (32, 32))
    dense = RegionProposals(ANCHORS)(_output(logits, sizes))
    sparse = RegionProposals(ANCHORS)(_output(logits[logits.isfinite()], sizes, cells))
    assert torch.equal(dense.boxes_xyxy, sparse.boxes_xyxy)
    assert torch.equal(dense.image, sparse.image)


def test_overlapping_anchors_of_a_level_propose_once() -> None:
    anchors = AnchorShapes(((8.0, 8.1),), ratios=(1.0,), offset=0.5)
    output = _output(torch.zeros(16), ((32, 32),))
    twice = LevelAnswers(torch.zeros(16, 2, 1), torch.zeros(16, 2, 4), None, (4, 4), 1)
    assert len(RegionProposals(anchors)(DenseOutput((twice,), (8,), (32, 32), output.sizes_hw))) == 16


def test_detections_are_in_pixels_of_the_original_image_and_of_their_image() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [5, 5, 15, 15]])
    logits = torch.tensor([[5.0, 0, 0], [4, 0, 0], [0, 6, 0]])
    answers = RegionAnswers(Regions(boxes, torch.tensor([0, 0, 1]), 2), logits, torch.zeros(3, 2, 4))
    output = _second_stage(answers, 2)
    first, second = RegionReadout()(output, [(40, 20), (20, 20)], CLASSES)
    assert (first.labels.tolist(), second.labels.tolist()) == ([0], [1])
    assert first.boxes_xyxy.tolist() == [[0, 0, 10, 20]]
    assert second.boxes_xyxy.tolist() == [[5, 5, 15, 15]]


def test_no_region_gives_no_detection() -> None:
    regions = Regions(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), 1)
    answers = RegionAnswers(regions, torch.zeros(0, 3), torch.zeros(0, 2, 4))
    output = _second_stage(answers, 1)
    assert [len(found) for found in RegionReadout()(output, [(20, 20)], CLASSES)] == [0]
