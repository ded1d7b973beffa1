"""The best rows of each image against a loop over images."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from smidgen.boxes.best_of_each_image import best_of_each_image


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=30), st.integers(0, 6))
def test_each_image_gets_its_best_rows_in_order(rows: list[tuple[int, int]], count: int) -> None:
    image = torch.tensor([row[0] for row in rows], dtype=torch.long)
    scores = torch.tensor([float(row[1]) for row in rows])
    expected = [
        index
        for wanted in range(4)
        for index in sorted((i for i, row in enumerate(rows) if row[0] == wanted), key=lambda i: -rows[i][1])[:count]
    ]
    assert best_of_each_image(scores, image, count, 4).tolist() == expected
