"""VisDrone's rows, and the rule by which a box belongs to one of four patches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.data.geometry import Window
from smidgen.data.visdrone import CLASSES, Rows, ignored_regions, judged, patches, read_rows, split_objects


def rows(*values: tuple[int, ...]) -> Rows:
    return np.array(values, dtype=np.int64).reshape(-1, 6)


def test_rows_are_read_with_and_without_a_last_comma(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("684,8,273,116,0,0,0,0\n406,119,265,70,1,4,0,1,\n\n5,6,7,8,1,10\n")
    found = read_rows(tmp_path / "a.txt")
    assert found.tolist() == [[684, 8, 273, 116, 0, 0], [406, 119, 265, 70, 1, 4], [5, 6, 7, 8, 1, 10]]


@pytest.mark.parametrize("line", ["1,2,3,4,1", "1,2,3,4,1,x", "<html>"])
def test_rows_that_mean_nothing_are_an_error_with_their_line(line: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"1,2,3,4,1,4\n{line}\n")
    with pytest.raises(ValueError, match=r"in line 2 of .*a\.txt"):
        read_rows(tmp_path / "a.txt")


def test_an_odd_row_and_column_go_to_the_bottom_and_right() -> None:
    assert patches((765, 1361)) == (
        Window(0, 0, 382, 680),
        Window(0, 680, 382, 681),
        Window(382, 0, 383, 680),
        Window(382, 680, 383, 681),
    )


def test_the_top_left_corner_decides_and_the_cut_clips() -> None:
    image = rows((661, 121, 21, 11, 1, 2), (680, 382, 5, 6, 1, 1), (10, 381, 4, 9, 1, 3), (679, 381, 9, 9, 1, 10))
    chosen, patch, boxes = split_objects(image, (765, 1361))
    assert chosen.tolist() == [0, 1, 2, 3] and patch.tolist() == [0, 3, 0, 0]
    assert boxes.tolist() == [[661, 121, 19, 11], [0, 0, 5, 6], [10, 381, 4, 1], [679, 381, 1, 1]]


def test_rows_without_score_or_of_no_category_are_no_objects() -> None:
    image = rows((0, 0, 9, 9, 0, 4), (0, 0, 9, 9, 1, 0), (0, 0, 9, 9, 1, 11), (0, 0, 9, 9, 1, 10), (0, 0, 9, 9, 1, 1))
    assert judged(image).tolist() == [False, False, False, True, True]
    assert judged(image, range(1, 12)).tolist() == [False, False, True, True, True], "as the released code"
    assert CLASSES.names[0] == "pedestrian" and CLASSES.names[9] == "motor"


@given(st.lists(st.tuples(*[st.integers(0, 90)] * 2, *[st.integers(1, 60)] * 2), max_size=8), st.integers(2, 91))
def test_every_object_lies_in_one_patch_where_it_was(boxes: list[tuple[int, ...]], height: int) -> None:
    size_hw = (height, 101)
    image = rows(*[(x, min(y, height - 1), w, h, 1, 4) for x, y, w, h in boxes])
    chosen, patch, local = split_objects(image, size_hw)
    assert chosen.tolist() == list(range(len(boxes)))
    for row, index, (x, y, width, tall) in zip(image, patch, local, strict=True):
        window = patches(size_hw)[index]
        assert (x + window.left, y + window.top) == (row[0], row[1])
        assert 0 <= x < window.width and 0 <= y < window.height
        assert 0 < width <= row[2] and 0 < tall <= row[3]


def test_every_patch_has_its_part_of_an_ignored_region() -> None:
    image = rows((20, 10, 30, 40, 0, 0), (0, 0, 5, 5, 1, 4))
    parts = [ignored_regions(image, window).tolist() for window in patches((60, 60))]
    assert parts == [[[20, 10, 10, 20]], [[0, 10, 20, 20]], [[20, 0, 10, 20]], [[0, 0, 20, 20]]]
    assert ignored_regions(image, Window(0, 0, 10, 60)).tolist() == []
