"""What `smidgen demo` trains: a nano network on generated scenes of 320 px, for about two minutes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from smidgen.data import Augmentation
from smidgen.data.synthetic import SceneConfig
from smidgen.recipes.experiment import DataConfig, EvaluationConfig, Experiment, default_experiment
from smidgen.recipes.from_scratch import from_scratch
from smidgen.structures import Preprocessing

SIDE_PX = 320


def scenes(seed: int = 0) -> SceneConfig:
    """Streets, parking lots and fields with three classes of vehicles, 8 to 40 px in size."""
    return SceneConfig(
        size_wh=(SIDE_PX, SIDE_PX),
        side_px=(8.0, 40.0),
        objects=(4, 16),
        classes=("car", "truck", "bus"),
        sceneries=("streets", "parking", "fields"),
        seed=seed,
    )


def splits(minutes: float) -> dict[str, int]:
    """Scenes to draw: as many as so much training can make use of."""
    return {"train": min(400, max(32, round(150 * minutes))), "val": 40 if minutes >= 1 else 12}


def demo(system: str = "dino_nano", data: Path = Path("scenes"), minutes: float = 2.0) -> Experiment:
    """Train on generated scenes until the time is up.

    smidgen demo --out demo --minutes 2
    """
    base = default_experiment(system)
    return replace(
        base,
        model=replace(base.model, preprocessing=Preprocessing(short_side=SIDE_PX, long_side=SIDE_PX)),
        data=DataConfig(path=str(data), augmentation=Augmentation(vertical_flip=0.5, quarter_turns=0.5)),
        training=replace(
            from_scratch(), epochs=60, max_minutes=minutes, warmup_steps=20, evaluate_every=2, ema_decay=0.99
        ),
        evaluation=EvaluationConfig(protocol="coco", bootstrap=100),
    )
