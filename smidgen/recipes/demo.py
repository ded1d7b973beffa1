"""What `smidgen demo` trains: a nano network on small generated scenes, for about two minutes."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from smidgen.data import Augmentation, open_dataset, training_loader
from smidgen.data.synthetic import SceneConfig
from smidgen.models import create_criterion
from smidgen.recipes.experiment import DataConfig, EvaluationConfig, Experiment, default_experiment
from smidgen.recipes.from_scratch import from_scratch
from smidgen.recipes.running import build, resolved
from smidgen.structures import Preprocessing

SIDE_PX = 256
FEWEST_STEPS = 40


def scenes(seed: int = 0) -> SceneConfig:
    """Streets, parking lots and harbors with cars and boats, 8 to 40 px in size."""
    return SceneConfig(
        size_wh=(SIDE_PX, SIDE_PX),
        side_px=(8.0, 40.0),
        objects=(6, 20),
        classes=("car", "boat"),
        sceneries=("streets", "parking", "harbor"),
        seed=seed,
    )


def splits(minutes: float) -> dict[str, int]:
    """Scenes to draw: as many as so much training can make use of."""
    return {"train": min(400, max(32, round(150 * minutes))), "val": 32 if minutes >= 1 else 8}


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
            from_scratch(),
            epochs=200,
            batch_size=2,
            learning_rate=1e-3,
            warmup_steps=20,
            ema_decay=0.98,
            max_minutes=1.25 * minutes,
            memory_forecast=False,
        ),
        evaluation=EvaluationConfig(protocol="coco", bootstrap=100, batch_size=4),
    )


def fitted_to(experiment: Experiment, minutes: float, device: str) -> Experiment:
    """The experiment with as many steps as this machine makes in so many minutes, so that the rate has fallen by then.

    A few steps are timed to know. About a seventh of the time is left for the evaluations. Where the machine turns out
    to be slower than it seemed, `training.max_minutes` ends the training.
    """
    steps = max(FEWEST_STEPS, int(60 * minutes * 0.85 / seconds_per_step(experiment, device)))
    images = len(open_dataset(experiment.data.path, "train"))
    epochs = -(-steps * experiment.training.batch_size // images)
    every = max(1, epochs // 5)
    return replace(experiment, training=replace(experiment.training, max_steps=steps, evaluate_every=every))


def seconds_per_step(experiment: Experiment, device: str, steps: int = 5) -> float:
    """Time of the quickest of a few training steps after one to warm up, without the optimizer.

    The quickest, because whatever else the machine is doing only makes steps slower.
    """
    dataset = open_dataset(experiment.data.path, "train")
    experiment = resolved(experiment, dataset.classes, has_weights=False)
    model = build(experiment, dataset.classes).to(device).train()
    criterion = create_criterion(model).to(device)
    batches = training_loader(
        dataset,
        preprocessing=model.config.preprocessing,  # type: ignore[union-attr, arg-type]
        augmentation=experiment.data.augmentation,
        batch_size=experiment.training.batch_size,
        seed=0,
    ).iterate()
    times = []
    for _ in range(1 + steps):
        start = time.perf_counter()
        images, targets = next(batches)
        on_device = [target.to(device) for target in targets]
        sum(criterion(model(images.to(device), on_device), on_device, 0.0).values()).backward()
        times.append(time.perf_counter() - start)
    return min(times[1:])
