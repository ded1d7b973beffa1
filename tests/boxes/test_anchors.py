"""Where anchors lie and how large they are."""

from __future__ import annotations

import pytest
import torch

from smidgen.boxes import area, xyxy_to_cxcywh
from smidgen.boxes.anchors import AnchorShapes, cell_centers, octave_sizes
from smidgen.structures import Cells

RETINANET = AnchorShapes(octave_sizes((16, 32, 64, 128, 256, 512)))


def test_retinanet_has_806400_anchors_on_an_image_of_800_by_1344() -> None:
    shapes = [(200, 336), (100, 168), (50, 84), (25, 42), (13, 21), (7, 11)]
    assert sum(rows * columns for rows, columns in shapes) * RETINANET.num_anchors == 806_400


def test_an_anchor_has_its_size_its_ratio_and_the_corner_of_its_cell_as_middle() -> None:
    anchors = xyxy_to_cxcywh(RETINANET.of_level(1, (3, 4), 8))
    assert anchors.shape == (12, 9, 4)
    torch.testing.assert_close(anchors[7, 4], torch.tensor([24.0, 8.0, 32 * 2 ** (1 / 3), 32 * 2 ** (1 / 3)]))
    width, height = anchors[0, 2, 2:]
    assert height / width == pytest.approx(2), "ratios are height / width, the last of a size is 2"
    torch.testing.assert_close(width * height, torch.tensor(32.0**2))


def test_areas_do_not_depend_on_the_ratio() -> None:
    areas = area(RETINANET.of_level(0, (1, 1), 4)).reshape(3, 3)
    torch.testing.assert_close(areas, areas[:, :1].expand(3, 3))


def test_anchors_of_chosen_cells_are_those_of_all_cells_there() -> None:
    chosen = torch.rand(2, 5, 7) > 0.6
    everywhere = RETINANET.of_level(2, (5, 7), 16).unflatten(0, (5, 7))
    cells = Cells.where(chosen)
    assert torch.equal(RETINANET.at_cells(2, cells, 16), everywhere[cells.row, cells.column])


def test_centers_of_cells_are_x_then_y_row_by_row() -> None:
    centers = cell_centers((2, 3), 8)
    assert centers.tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]
    assert torch.equal(cell_centers(Cells.all_of(1, (2, 3)), 8), centers)


def test_levels_with_different_numbers_of_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="equally many anchor sizes"):
        AnchorShapes(((16.0,), (32.0, 40.0)))
    with pytest.raises(ValueError, match="above 0"):
        AnchorShapes(((16.0,),), ratios=(0.0,))
