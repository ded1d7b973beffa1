"""The best answers of each level become boxes of the original image, suppressed class by class."""

from __future__ import annotations

import torch
from torch import Tensor

from smidgen.boxes.anchors import AnchorShapes
from smidgen.decoder.dense_readout import AnchorBoxes, DenseReadout, PointBoxes
from smidgen.structures import Cells, Classes, DenseOutput, LevelAnswers

CLASSES = Classes.numbered(2)
ANCHORS = AnchorShapes(((8.0,), (16.0,)), ratios=(1.0,), offset=0.5)


def _level(logits: dict[tuple[int, int, int], tuple[float, float]], shape: tuple[int, int], batch: int) -> LevelAnswers:
    """Logits at (image, row, column), -20 elsewhere; boxes are the anchors."""
    rows = torch.full((batch, *shape, 1, 2), -20.0)
    for place, values in logits.items():
        rows[place] = torch.tensor([values])
    return LevelAnswers(rows.flatten(0, 2), torch.zeros(rows.numel() // 2, 1, 4), None, shape, batch)


def _output(*levels: LevelAnswers, sizes: tuple[tuple[int, int], ...] = ((32, 32), (32, 32))) -> DenseOutput:
    return DenseOutput(levels, (8, 16)[: len(levels)], (32, 32), sizes)


def _two_images() -> DenseOutput:
    fine = _level({(0, 0, 0): (2.0, 1.0), (0, 1, 1): (1.5, -20), (1, 3, 3): (0.5, -20)}, (4, 4), 2)
    return _output(fine, _level({(0, 0, 0): (3.0, -20)}, (2, 2), 2))


def test_boxes_of_a_class_suppress_each_other_over_levels_and_classes_do_not() -> None:
    readout = DenseReadout(AnchorBoxes(ANCHORS), nms_iou=0.2)
    first, second = readout(_two_images(), [(32, 32), (32, 32)], CLASSES)
    # The coarse box covers both fine ones of its class with IoU 0.25.
    assert first.labels.tolist() == [0, 1] and first.boxes_xyxy.tolist() == [[0, 0, 16, 16], [0, 0, 8, 8]]
    assert second.boxes_xyxy.tolist() == [[24, 24, 32, 32]]
    torch.testing.assert_close(second.scores, torch.tensor([0.5]).sigmoid())


def test_boxes_are_clipped_to_the_image_and_scaled_to_its_original() -> None:
    level = _level({(0, 0, 1): (2.0, -20)}, (2, 2), 1)
    shifted = LevelAnswers(level.logits, level.regression + torch.tensor([0.5, 0, 0, 0]), None, (2, 2), 1)
    output = DenseOutput((shifted,), (8,), (16, 16), ((16, 14),))
    (found,) = DenseReadout(AnchorBoxes(ANCHORS))(output, [(32, 28)], CLASSES)
    assert found.boxes_xyxy.tolist() == [[24, 0, 28, 16]] and found.image_hw == (32, 28)


def test_candidates_are_limited_by_level_and_detections_by_image() -> None:
    output = _two_images()
    few = DenseReadout(AnchorBoxes(ANCHORS), candidates=1, nms_iou=0.9).suppressed(output, 0)
    assert few.labels.tolist() == [0, 0] and few.scores.tolist() == torch.tensor([3.0, 2.0]).sigmoid().tolist()
    assert len(DenseReadout(AnchorBoxes(ANCHORS), nms_iou=0.9, num_detections=3).suppressed(output, 0).scores) == 3
    threshold = torch.tensor(1.5).sigmoid().item()
    above = DenseReadout(AnchorBoxes(ANCHORS), threshold, nms_iou=0.9).suppressed(output, 0)
    assert len(above.scores) == 2  # strictly above


def test_answers_of_chosen_cells_are_read_like_those_of_all() -> None:
    output = _two_images()
    fine = output.levels[0]
    chosen = (fine.logits[:, 0, 0] > -20).view(2, 4, 4)
    chosen[:, :2] = True
    cells = Cells.where(chosen)
    sparse = LevelAnswers(fine.logits[cells.index], fine.regression[cells.index], None, (4, 4), 2, cells)
    none = Cells.where(torch.zeros(2, 2, 2, dtype=torch.bool))
    empty = LevelAnswers(fine.logits[:0], fine.regression[:0], None, (2, 2), 2, none)
    readout = DenseReadout(AnchorBoxes(ANCHORS))
    for coarse in (output.levels[1], empty):
        for image in range(2):
            found = readout.suppressed(_output(sparse, coarse), image)
            dense = _level({}, (2, 2), 2) if coarse is empty else coarse
            expected = readout.suppressed(_output(fine, dense), image)
            for ours, theirs in zip(found, expected, strict=True):
                torch.testing.assert_close(ours, theirs)


def test_points_score_the_root_of_class_and_centerness_and_reach_to_their_distances() -> None:
    level = _level({(0, 1, 2): (0.0, 2.0), (0, 0, 0): (-4.0, -20)}, (4, 4), 1)
    centerness = torch.full((16, 1), 1.0)
    distances = torch.tensor([1.0, 2, 3, 4]).expand(16, 1, 4)
    output = DenseOutput((LevelAnswers(level.logits, distances, centerness, (4, 4), 1),), (8,), (32, 32), ((32, 32),))
    found = DenseReadout(PointBoxes(), score_threshold=0.05).suppressed(output, 0)
    expected = (torch.tensor([2.0, 0.0]).sigmoid() * torch.tensor(1.0).sigmoid()).sqrt()
    torch.testing.assert_close(found.scores, expected)
    assert found.labels.tolist() == [1, 0] and found.boxes_xyxy.tolist() == [[19, 10, 23, 16]] * 2


def test_cells_in_the_padding_propose_nothing_unless_asked() -> None:
    level = _level({(0, 0, 3): (3.0, -20), (0, 0, 0): (2.0, -20)}, (4, 4), 1)
    output = DenseOutput((level,), (8,), (32, 32), ((32, 20),))

    def scores(**settings: bool) -> Tensor:
        return DenseReadout(AnchorBoxes(ANCHORS), candidates=1, **settings).suppressed(output, 0).scores

    assert scores().tolist() == torch.tensor([2.0]).sigmoid().tolist()
    assert scores(padded_cells=True).tolist() == torch.tensor([3.0]).sigmoid().tolist()
