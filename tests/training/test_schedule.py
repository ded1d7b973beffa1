"""The learning rate at every step of both schedules."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smidgen.training import TrainingConfig
from smidgen.training.schedule import learning_rate_factor, set_learning_rates


def factors(config: TrainingConfig, steps_per_epoch: int, total: int) -> list[float]:
    return [learning_rate_factor(step, config, steps_per_epoch, total) for step in range(total)]


def test_steps_fall_after_their_epochs() -> None:
    """LSQ-DETR's recipe: 24 epochs, a tenth after the 13th and the 23rd."""
    rates = factors(TrainingConfig(epochs=24, milestones=(13, 23)), 5, 120)
    assert rates == pytest.approx([1.0] * 65 + [0.1] * 50 + [0.01] * 5)


def test_default_drop_is_dino_s() -> None:
    assert factors(TrainingConfig(epochs=12), 3, 36) == pytest.approx([1.0] * 33 + [0.1] * 3)


def test_cosine_goes_from_one_to_its_end() -> None:
    config = TrainingConfig(schedule="cosine", final_factor=0.2)
    rates = factors(config, 10, 100)
    assert rates[0] == 1
    assert rates[50] == pytest.approx(0.6)
    assert learning_rate_factor(100, config, 10, 100) == pytest.approx(0.2)
    assert rates == sorted(rates, reverse=True)


def test_warm_up_is_linear() -> None:
    """Salience DETR's: from a thousandth over the first steps."""
    rates = factors(TrainingConfig(warmup_steps=4, warmup_factor=0.2, milestones=()), 10, 100)
    assert rates[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


@given(
    st.integers(0, 500),
    st.sampled_from(["step", "cosine"]),
    st.integers(0, 50),
    st.floats(0, 1),
    st.integers(1, 40),
    st.integers(1, 500),
)
def test_factor_stays_a_share(
    step: int, schedule: str, warmup: int, final: float, steps_per_epoch: int, total: int
) -> None:
    config = TrainingConfig(schedule=schedule, warmup_steps=warmup, final_factor=final)  # type: ignore[arg-type]
    assert 0 <= learning_rate_factor(step, config, steps_per_epoch, total) <= 1


def test_every_group_keeps_its_share() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": [weight], "initial_lr": rate} for weight, rate in zip(weights, (1e-4, 1e-5), strict=True)]
    optimizer = torch.optim.AdamW(groups)
    set_learning_rates(optimizer, 0.5)
    set_learning_rates(optimizer, 0.1)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1e-5, 1e-6])
