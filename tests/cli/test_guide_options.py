from __future__ import annotations

import pytest

from smidgen.cli.guide_options import chosen_guide


def test_without_a_guide_all_tiles_are_looked_at() -> None:
    assert chosen_guide(None, None, None, tile=256) is None


def test_settings_of_the_guide() -> None:
    guide = chosen_guide(0.5, 0.7, 0.25, tile=256)
    assert guide is not None and (guide.scale, guide.threshold, guide.share) == (0.5, 0.7, 0.25)
    default = chosen_guide(0.25, None, None, tile=256)
    assert default is not None and default.threshold == 0.1 and default.share is None


@pytest.mark.parametrize(
    ("scale", "threshold", "tile", "message"), [(None, 0.3, 256, "need --guide"), (0.25, None, None, "needs --tile")]
)
def test_options_that_need_others(scale: float | None, threshold: float | None, tile: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chosen_guide(scale, threshold, None, tile=tile)
