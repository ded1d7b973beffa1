"""Presets of the levels' weights."""

from __future__ import annotations

import pytest

from smidgen.losses.level_weights import level_weights


def test_presets_are_the_tables_of_code_and_paper() -> None:
    assert level_weights("released_coco", 6) == (1.0, 1.4, 2.1, 2.5, 2.9, 3.2)
    assert level_weights("released_visdrone", 6) == (1.0, 1.4, 1.8, 2.2, 2.6, 2.6)
    assert level_weights("linear", 6) == pytest.approx((1.0, 1.4, 1.8, 2.2, 2.6, 3.0))
    assert level_weights("linear_visdrone", 6) == pytest.approx((1.0, 1.32, 1.64, 1.96, 2.28, 2.6))
    assert level_weights("linear", 5) == pytest.approx((1.0, 1.5, 2.0, 2.5, 3.0))
    assert level_weights("uniform", 5) == (1.0,) * 5
    assert level_weights((0.5, 2.0), 2) == (0.5, 2.0)


def test_weights_for_other_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="each of 5 levels"):
        level_weights("released_coco", 5)
