"""Options of tiled prediction become settings, or an error that names the option."""

from __future__ import annotations

from typing import Any

import pytest

from smidgen.boxes.tile_merging import Merging
from smidgen.cli.tiling_options import chosen_tiling
from smidgen.export.bundle import Tiling as Plan

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


def test_an_exported_files_plan_goes_unless_a_tile_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    plan = Plan(tile_px=400, overlap=0.25)
    by_plan = chosen_tiling(None, plan, **UNSET)
    assert by_plan is not None and (by_plan.tile_px, by_plan.overlap_px) == (400, 100)
    assert "as the exported file says: tiles of 400 px that overlap by 100 px" in capsys.readouterr().err
    changed = chosen_tiling(None, plan, **{**UNSET, "overlap": "50px", "merge": "none"})
    assert changed is not None and (changed.overlap_px, changed.merging.kind) == (50, "none")
    capsys.readouterr()
    other = chosen_tiling(512, plan, **UNSET)
    assert other is not None and (other.tile_px, other.overlap_px) == (512, 102)
    assert chosen_tiling(0, plan, **UNSET) is None
    assert capsys.readouterr().err == ""
    with pytest.raises(ValueError, match="--overlap belong to tiled prediction"):
        chosen_tiling(0, plan, **{**UNSET, "overlap": "0.1"})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("overlap", "much"),
        ("scales", "1,x"),
        ("memory", "-1"),
        ("bands", "1,2"),
        ("bands", "1.5,2,3"),
        ("bands", "nan,2,3"),
        ("value_range", "3,1"),
    ],
)
def test_values_that_make_no_sense_are_refused(option: str, value: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        chosen_tiling(1024, **{**UNSET, option: value})
