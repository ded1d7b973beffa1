from __future__ import annotations

import numpy as np
import pytest
from error_cases import analysis

from smidgen.analysis.calibration_chart import calibration_chart


def test_bars_are_as_high_as_the_share_that_is_right():
    calibration = analysis().calibration
    assert calibration is not None
    picture = calibration_chart(calibration)
    shown = [one for one in calibration.by_size if one.detections.any()]
    drawn = [axes for axes in picture.figure.axes if axes.patches]
    assert len(drawn) == len(shown)
    for axes, one in zip(drawn, shown, strict=True):
        assert [bar.get_height() for bar in axes.patches] == pytest.approx(np.nan_to_num(one.accuracy).tolist())
        assert f"{one.size}: error {one.expected_error:.3f}" in axes.get_title()
    assert picture.data == calibration.to_json()
