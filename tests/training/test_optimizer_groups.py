"""Names decide the learning rate and the decay, and every trainable parameter is in exactly one group."""

from __future__ import annotations

import pytest
from stub_detector import stub_detector

from smidgen.training import TrainingConfig
from smidgen.training.optimizer_groups import describe_groups, optimizer_groups


def group_of(config: TrainingConfig) -> dict[str, tuple[float, float]]:
    """Parameter name -> (learning rate, weight decay)."""
    model = stub_detector()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = optimizer_groups(model, config)
    settings = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert sorted(settings) == sorted(names.values())
    assert sum(len(group["params"]) for group in groups) == len(names)
    return settings


def test_dino_decays_everything() -> None:
    groups = group_of(TrainingConfig())
    assert groups["backbone.0.weight"] == pytest.approx((1e-5, 1e-4))
    assert groups["sampling_offsets.bias"] == pytest.approx((1e-5, 1e-4))
    assert groups["class_head.weight"] == groups["norm.weight"] == pytest.approx((1e-4, 1e-4))


def test_salience_detr_spares_norms_and_biases() -> None:
    groups = group_of(TrainingConfig(decay_norms_and_biases=False))
    assert groups["sampling_offsets.weight"] == pytest.approx((1e-5, 1e-4))
    assert groups["sampling_offsets.bias"] == pytest.approx((1e-5, 0))
    assert groups["norm.weight"] == groups["class_head.bias"] == pytest.approx((1e-4, 0))
    # As released: a norm without "norm" in its name is decayed.
    assert groups["backbone.1.weight"] == pytest.approx((1e-5, 1e-4))


def test_frozen_parameters_are_left_out() -> None:
    model = stub_detector()
    model.backbone.requires_grad_(False)
    assert "backbone" not in {group["name"] for group in optimizer_groups(model, TrainingConfig())}
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="all frozen"):
        optimizer_groups(model, TrainingConfig())


def test_description_has_a_line_per_group() -> None:
    text = describe_groups(optimizer_groups(stub_detector(), TrainingConfig(learning_rate=2e-4)))
    assert "  backbone: 120 parameters, learning rate 2e-05, weight decay 0.0001" in text.splitlines()
