from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from smidgen.training.classification_config import ClassificationAugmentation, ClassificationTraining, learning_rate_at

RECIPE = ClassificationTraining(batch_size=1024)


def test_rate_follows_swin() -> None:
    """300 epochs of 10 steps: a line over 20 epochs to 5e-4 x 1024 / 512, then a cosine that counts from the start."""
    rates = [learning_rate_at(step, RECIPE, 10) for step in range(3001)]
    assert rates[0] == pytest.approx(5e-7 * 2)
    assert rates[100] == pytest.approx((5e-7 + 5e-4) / 2 * 2)
    assert max(rates) == pytest.approx(1e-3, rel=0.02)
    assert rates[1500] == pytest.approx((5e-4 + 5e-6) / 2 * 2)
    assert rates[3000] == pytest.approx(5e-6 * 2)
    assert all(later < earlier for earlier, later in pairwise(rates[200:]))


def test_rate_grows_with_the_batch() -> None:
    small = learning_rate_at(1000, replace(RECIPE, batch_size=128), 10)
    assert learning_rate_at(1000, RECIPE, 10) == pytest.approx(8 * small)


def test_no_warmup_starts_at_the_top() -> None:
    assert learning_rate_at(0, replace(RECIPE, warmup_epochs=0), 10) == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 20}, r"training.warmup_epochs to be within \[0, 20\)"),
        ({"batch_size": 0}, "training.batch_size to be at least 1, got 0"),
        ({"label_smoothing": 1.0}, r"training.label_smoothing to be within \[0, 1\)"),
        ({"learning_rate": float("nan")}, "training.learning_rate"),
    ],
)
def test_impossible_training_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassificationTraining(**change)


@pytest.mark.parametrize("change", [{"crop_area": (0.5, 0.1)}, {"flip": 2.0}, {"mixup": -1.0}, {"image_size": 0}])
def test_impossible_augmentation_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"augmentation.{next(iter(change))}"):
        ClassificationAugmentation(**change)
