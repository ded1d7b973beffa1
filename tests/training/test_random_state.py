"""Captured generators go on where they were, and survive a file read without unpickling."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch

from smidgen.training.random_state import (
    capture_random_state,
    preserved_random_state,
    restore_random_state,
    seed_everything,
)


def draw() -> list[float]:
    numbers = [random.gauss(0, 1), random.random(), float(np.random.normal()), float(np.random.rand())]
    return [*numbers, *torch.randn(3).tolist()]


def test_generators_go_on_from_a_file(tmp_path: Path) -> None:
    draw()
    torch.save(capture_random_state(), tmp_path / "state.pt")
    expected = draw()
    seed_everything(5)
    restore_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert draw() == expected


def test_seeds_decide_everything() -> None:
    seed_everything(3)
    first = draw()
    seed_everything(3)
    assert draw() == first
    seed_everything(4)
    assert not set(draw()) & set(first)


def test_what_is_drawn_inside_is_not_noticed_outside() -> None:
    seed_everything(3)
    expected = draw()
    seed_everything(3)
    with preserved_random_state():
        draw()
    assert draw() == expected
