"""A configuration that cannot work is refused when it is made, by the name of the field."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest
from pydantic import TypeAdapter

from smidgen.training import TrainingConfig
from smidgen.training.config import SPEED_ONLY


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", -1),
        ("accumulation", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("weight_decay", -1e-4),
        ("clip_norm", float("nan")),
        ("ema_decay", 1.0),
        ("schedule", "linear"),
        ("precision", "fp16"),
        ("milestones", (3, 2)),
        ("milestones", (0, 2)),
        ("max_minutes", 0.0),
        ("max_steps", 0),
        ("checkpoint_every_seconds", -1.0),
        ("workers", -1),
        ("seed", -1),
        ("seed", 2**63),
        ("best_metric", ""),
    ],
)
def test_impossible_values_name_their_field(name: str, value: Any) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"training.{name} to be"):
        TrainingConfig(**settings)


def test_every_field_is_explained_in_its_group() -> None:
    documentation = TrainingConfig.__doc__ or ""
    results, speed = documentation.split("Changes speed only:")
    for field in fields(TrainingConfig):
        assert f"        {field.name}: " in (speed if field.name in SPEED_ONLY else results), field.name


def test_pydantic_reads_it() -> None:
    config = TypeAdapter(TrainingConfig).validate_python({"milestones": [13, 23], "max_minutes": "1.5"})
    assert (config.milestones, config.max_minutes) == ((13.0, 23.0), 1.5)


def test_it_needs_no_torch() -> None:
    code = (
        "import sys; from smidgen.training import TrainingConfig; TrainingConfig(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
