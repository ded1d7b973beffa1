"""The picture is made from lines of any completeness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from smidgen.training.curves import draw_curves


def line(step: int, **losses: float) -> dict[str, Any]:
    rates = {"other": 1e-4 / step}
    return {"kind": "train", "step": step, "loss": sum(losses.values()), "losses": losses, "learning_rates": rates}


def test_curves_are_a_picture(tmp_path: Path) -> None:
    evaluation = {"kind": "evaluation", "step": 2, "seconds": 60.0, "metrics": {"AP": 0.1, "AP50": 0.3}}
    draw_curves([line(1, a=2.0, b=1.0), line(2, a=1.0), evaluation], tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1500, 420)
        assert len(picture.convert("RGB").getcolors(2**20) or []) > 10


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    draw_curves([], tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
