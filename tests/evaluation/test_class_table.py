from __future__ import annotations

import pytest

from smidgen.evaluation.class_table import LONGEST_NAME, ClassTable
from smidgen.evaluation.plain_text import plain_text

FIGURES = {"AP": 0.1234, "AP50": 0.5, "AP75": -1.0, "AR100": 0.3, "oLRP_localization": 0.75}
TABLE = ClassTable({"car": FIGURES, "a" * 40: FIGURES}, {"car": 1234}, lambda value: f"{value:.4f}")


@pytest.mark.parametrize("width", [60, 72, 80, 200])
def test_nothing_is_cut_and_nothing_is_lost(width: int):
    text = plain_text(TABLE, width)
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    for part in ("AP50", "AP75", "oLRP_localization", "0.1234", "0.7500", "1234", "a" * LONGEST_NAME):
        assert part in text
    assert "AR100" not in text


def test_one_table_where_all_fits_and_more_where_not():
    assert plain_text(TABLE, 200).count("class ") == 1 < plain_text(TABLE, 60).count("class ")


def test_without_figures_there_are_classes_still():
    assert "car" in plain_text(ClassTable({"car": {}}, {"car": 2}, str), 80)
    assert "class" in plain_text(ClassTable({}, {}, str), 80)
