from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from smidgen.analysis.token_coverage import Grid, cells_around, centers_inside, count_in, homes_of, without_token


def grid(stride: int = 8, shape: tuple[int, int] = (8, 12)) -> Grid:
    return Grid(stride, (float(stride), float(stride)), torch.ones(shape, dtype=torch.bool))


numbers = st.floats(-20, 120, allow_nan=False, width=32)


@given(st.lists(st.tuples(numbers, numbers, numbers, numbers), max_size=6), st.integers(0, 1000))
def test_cells_counted_in_rectangles_are_those_whose_centers_lie_in_the_boxes(
    corners: list[tuple[float, float, float, float]], seed: int
) -> None:
    torch.manual_seed(seed)
    points = torch.tensor(corners, dtype=torch.float32).reshape(-1, 2, 2)
    boxes = torch.cat([points.amin(dim=1), points.amax(dim=1)], dim=1)
    level, chosen = grid(), torch.rand(8, 12) < 0.5
    y, x = torch.meshgrid(torch.arange(8) * 8 + 4.0, torch.arange(12) * 8 + 4.0, indexing="ij")
    left, top, right, bottom = (side[:, None, None] for side in boxes.unbind(-1))
    inside = (left <= x) & (x <= right) & (top <= y) & (y <= bottom)
    assert count_in(chosen, centers_inside(boxes, level)).tolist() == (inside & chosen).sum(dim=(1, 2)).tolist()


def test_small_objects_live_on_fine_levels_and_the_homeless_where_their_center_is() -> None:
    levels = [grid(), grid(16, (4, 6))]
    boxes = torch.tensor([[2.0, 2.0, 14.0, 14.0], [0.0, 0.0, 33.0, 33.0], [9.0, 9.0, 11.0, 11.0]])
    homes = homes_of(boxes, levels)
    cells = torch.stack([count_in(level.valid, rows) for level, rows in zip(levels, homes.rectangles, strict=True)])
    # A stride of 16 has a center at (8, 8), which for an object of 12 px is chance.
    assert cells.T.tolist() == [[4, 0], [16, 4], [1, 0]]
    assert homes.rectangles[0, 2].tolist() == [1, 1, 2, 2]
    held = homes.hold(torch.tensor([0, 1]), torch.tensor([1, 1]), torch.tensor([1, 1]))
    assert held.tolist() == [[True, True, True], [False, True, False]]


def test_of_two_objects_with_one_cell_the_nearer_has_it() -> None:
    boxes = torch.tensor([[8.5, 8.5, 10.5, 10.5], [11.0, 11.0, 12.5, 12.5], [80.0, 8.5, 82.0, 9.5]])
    assert without_token(boxes, homes_of(boxes, [grid()]), [grid()]).tolist() == [True, False, False]
    hidden = Grid(8, (8.0, 8.0), torch.zeros(8, 12, dtype=torch.bool))
    assert without_token(boxes, homes_of(boxes, [hidden]), [hidden]).all()


def test_an_object_at_the_border_has_the_last_cell() -> None:
    assert cells_around(torch.tensor([[95.0, 63.0, 97.0, 65.0]]), grid()).tolist() == [[7, 11, 8, 12]]
