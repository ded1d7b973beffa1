from __future__ import annotations

import pytest
from error_cases import analysis

from smidgen.analysis.precision_recall_chart import precision_recall_chart


def test_lines_are_the_curves_and_circles_the_best_f1():
    curves = analysis().curves
    picture = precision_recall_chart(curves)
    sizes, classes = picture.figure.axes
    present = [curve.size for curve in curves.pooled if curve.objects]
    assert len(sizes.lines) == len(present)
    for line, size in zip(sizes.lines, present, strict=True):
        assert line.get_ydata() == pytest.approx(curves.mean(size))
    circles = {(line.get_xdata()[0], line.get_ydata()[0]) for line in classes.lines if len(line.get_xdata()) == 1}
    assert circles == {(c.best.recall, c.best.precision) for c in curves.of_size("all") if c.best is not None}
    assert picture.data == curves.to_json()
