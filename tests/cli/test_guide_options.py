from __future__ import annotations

import pytest

from smidgen.cli.guide_options import chosen_guide, looked_at_in_words


def test_without_a_guide_all_tiles_are_looked_at() -> None:
    assert chosen_guide(None, None, None, tiled=True) is None


def test_settings_of_the_guide() -> None:
    guide = chosen_guide(0.5, 0.7, 0.25, tiled=True)
    assert guide is not None and (guide.scale, guide.threshold, guide.share) == (0.5, 0.7, 0.25)
    default = chosen_guide(0.25, None, None, tiled=True)
    assert default is not None and default.threshold == 0.1 and default.share is None


@pytest.mark.parametrize(
    ("scale", "threshold", "tiled", "message"), [(None, 0.3, True, "need --guide"), (0.25, None, False, "needs --tile")]
)
def test_options_that_need_others(scale: float | None, threshold: float | None, tiled: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chosen_guide(scale, threshold, None, tiled=tiled)


def test_what_a_guide_chose_in_words() -> None:
    assert looked_at_in_words(3, 40) == "guide: 3 of 40 tiles looked at (7.5%)"
    assert looked_at_in_words(0, 0) == "guide: 0 of 0 tiles looked at (0.0%)"
