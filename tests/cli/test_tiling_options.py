"""Options of tiled prediction become settings, or an error that names the option."""

from __future__ import annotations

from typing import Any

import pytest

from smidgen.boxes.tile_merging import Merging
from smidgen.cli.tiling_options import chosen_tiling

UNSET: dict[str, Any] = {
    "overlap": None,
    "merge": None,
    "agnostic": False,
    "whole_image": False,
    "flips": False,
    "scales": None,
    "memory": None,
    "bands": None,
    "value_range": None,
}


def test_options_become_settings() -> None:
    given = {"overlap": "100px", "merge": "fusion", "scales": "1.0,1.5", "memory": "1GiB", "bands": "4,3,2"}
    tiling = chosen_tiling(512, **{**UNSET, **given, "value_range": "0,3000", "flips": True})
    assert tiling is not None
    assert (tiling.tile_px, tiling.overlap_px, tiling.scales, tiling.num_passes) == (512, 100, (1.0, 1.5), 4)
    assert (tiling.memory_bytes, tiling.merging) == (2**30, Merging(kind="fusion"))
    assert (tiling.pixels.bands, tiling.pixels.value_range) == ((4, 3, 2), (0.0, 3000.0))


def test_without_a_tile_nothing_is_tiled() -> None:
    assert chosen_tiling(None, **UNSET) is None
    with pytest.raises(ValueError, match=r"--overlap, --whole-image belong to tiled prediction"):
        chosen_tiling(None, **{**UNSET, "overlap": "0.1", "whole_image": True})


@pytest.mark.parametrize(
    ("option", "value"),
    [("overlap", "much"), ("scales", "1,x"), ("memory", "-1"), ("bands", "1,2"), ("value_range", "3,1")],
)
def test_values_that_make_no_sense_are_refused(option: str, value: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        chosen_tiling(1024, **{**UNSET, option: value})
