"""Settings are checked where they are made, without torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from smidgen.data import Augmentation


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("horizontal_flip", 1.5),
        ("mosaic", -0.1),
        ("hue", 0.7),
        ("short_sides", (320, 0)),
        ("long_side", 0),
        ("crop_sides", (600, 384)),
        ("crop_short_sides", ()),
        ("copy_paste_objects", 0),
    ],
)
def test_impossible_settings_name_their_field(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"augmentation.{field}"):
        replace(Augmentation(), **{field: value})  # type: ignore[arg-type]


def test_the_detr_recipe() -> None:
    recipe = Augmentation.detr()
    assert recipe.short_sides == (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    assert (recipe.long_side, recipe.crop, recipe.horizontal_flip) == (1333, 0.5, 0.5)
    assert (recipe.crop_short_sides, recipe.crop_sides) == ((400, 500, 600), (384, 600))
    assert recipe.visibility == 0


def test_small_presets_fit_their_budget() -> None:
    assert Augmentation.small((320,)).long_side == 533
    assert Augmentation.small(aerial=True).vertical_flip == 0.5
    with pytest.raises(ValueError, match="short_sides"):
        Augmentation.small(())


def test_settings_need_no_torch() -> None:
    code = "from smidgen.data import Augmentation; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
