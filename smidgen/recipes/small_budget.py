"""The budget that systems are compared under: about half an hour of one CPU core, at 320 to 480 px."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from smidgen.data import Augmentation
from smidgen.recipes.experiment import DataConfig, EvaluationConfig, Experiment, default_experiment
from smidgen.recipes.from_scratch import from_scratch
from smidgen.training import TrainingConfig


def deeppcb(system: str = "dino_nano", data: Path = Path("deeppcb")) -> Experiment:
    """Circuit-board defects (DeepPCB), 1000 images of 640 px seen at 320 px.

    dino_nano reaches AP 23.6 and 22.3 on val (coco@1, seeds 42 and 43) in 22 CPU minutes, one thread of a 2-core AMD
    EPYC, and AP 35.1 with twice the epochs (--epochs 8), where the curve is still rising.

    smidgen train dino_nano --recipe small_budget.deeppcb --data deeppcb --out runs/deeppcb
    """
    augmentation = Augmentation.small(range(288, 353, 32), aerial=True)
    return _experiment(
        system, data, augmentation, _seen_at(320, 320), replace(from_scratch(), epochs=4, evaluate_every=2)
    )


def aerial_cars(system: str = "dino_nano", data: Path = Path("aerial_cars")) -> Experiment:
    """Vehicles from the air (aerial-cars-dataset at half scale), 82 images seen whole at 320 to 480 px.

    No crops: their window is taken after a resize of the short side, which magnifies this set's long strips two to
    three times, and evaluation does not (docs/log.md, 2026-11-21). dino_nano
    reaches AP 2.1 and AP50 19.3 on cars on val (coco@1, seed 42) in 22 CPU minutes on a 2-core AMD EPYC.

    smidgen train dino_nano --recipe small_budget.aerial_cars --data aerial_cars --out runs/aerial_cars
    """
    augmentation = replace(Augmentation.small(range(320, 481, 32), aerial=True), crop=0.0)
    training = replace(from_scratch(), epochs=30, evaluate_every=10)
    return _experiment(system, data, augmentation, _seen_at(480, 800), training)


def scenes(system: str = "dino_nano", data: Path = Path("scenes")) -> Experiment:
    """Generated scenes of 128 px with 3 to 12 cars of 6 to 24 px: minutes instead of an hour, for comparisons with
    several seeds.

    dino_5scale_nano reaches AP 25.7 to 30.1 (aitod@1, three seeds, in bfloat16) in 12 to 14 CPU minutes, one thread of
    a 2-core AMD EPYC that was busy with other work.

    smidgen synth scenes --count 400 --val-count 100 --size 128x128 --objects 6-24 --density 3-12 --classes car
    smidgen train dino_5scale_nano --recipe small_budget.scenes --data scenes --set training.precision=bf16
        --out runs/scenes
    """
    augmentation = replace(Augmentation.small(range(112, 145, 16), aerial=True), crop=0.0)
    training = replace(from_scratch(), epochs=12, evaluate_every=3)
    return _experiment(system, data, augmentation, _seen_at(128, 128), training)


def _experiment(
    system: str, data: Path, augmentation: Augmentation, seen_at: dict[str, int], training: TrainingConfig
) -> Experiment:
    base = default_experiment(system)
    return replace(
        base,
        model=replace(base.model, preprocessing=replace(base.model.preprocessing, **seen_at)),
        data=DataConfig(path=str(data), augmentation=augmentation),
        training=training,
        evaluation=EvaluationConfig(protocol="aitod", bootstrap=200),
    )


def _seen_at(short_side: int, long_side: int) -> dict[str, int]:
    return {"short_side": short_side, "long_side": long_side}
