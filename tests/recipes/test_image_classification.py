"""The recipe as a program: what it writes, what it answers, and where a detector takes it up."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from smidgen.checkpoints.classification import load_classifier
from smidgen.models import NANO
from smidgen.recipes.experiment import default_experiment
from smidgen.recipes.image_classification import (
    ImageClassification,
    imagenet_folder,
    main,
    read_image_classification,
    run_image_classification,
)
from smidgen.recipes.named import list_recipes
from smidgen.recipes.running import build
from smidgen.structures import Classes
from smidgen.training.classification_config import learning_rate_at
from smidgen.training.image_folder import LabeledBatch, TrainingImageBatches

TINY = "model.options={channels: [8, 8, 16, 16], stem_width: 8}"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of two classes."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for index in range(4):
                pixels = rng.integers(0, 256, (36, 40, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{index}.png")
    return root


def words(data: Path, out: Path, *more: str) -> list[str]:
    flags = ["--epochs", "2", "--batch-size", "4", "--image-size", "32", "--device", "cpu", "--json"]
    return ["resnet10t", "--data", str(data), "--out", str(out), *flags, "--set", "training.workers=0", *more]


def test_the_recipe_is_that_of_strip_mlp() -> None:
    """Specification 1.4: AdamW, 300 epochs, 20 of warm-up, 5e-4 to 5e-6, decay 0.05, clip 5."""
    recipe = imagenet_folder("strip_mlp_t", "imagenet")
    training, augmentation = recipe.training, recipe.augmentation
    assert (training.epochs, training.warmup_epochs) == (300, 20)
    assert (training.learning_rate, training.final_learning_rate) == (5e-4, 5e-6)
    assert (training.weight_decay, training.clip_norm, training.label_smoothing) == (0.05, 5.0, 0.1)
    assert (augmentation.mixup, augmentation.cutmix, augmentation.erasing) == (0.8, 1.0, 0.25)
    assert augmentation.image_size == 224


def test_short_runs_warm_up_over_the_same_share() -> None:
    short = imagenet_folder("strip_mlp_t", "imagenet", epochs=30).training
    assert short.warmup_epochs == 2
    assert learning_rate_at(10, short, 10) < learning_rate_at(20, short, 10)


def test_it_is_no_recipe_of_a_detector() -> None:
    assert not [name for name in list_recipes() if name.startswith("image_classification")]


def test_the_command_line_trains_and_answers(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(data, tmp_path / "run", "--set", TINY)) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer.keys() == {"run", "best", "metrics", "seconds"}
    assert answer["metrics"].keys() == {"top1", "top5", "loss"}
    network, classifier = load_classifier(answer["best"])
    assert classifier.class_names == ("cat", "dog")
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 2)
    written = read_image_classification(tmp_path / "run" / "experiment.yaml")
    assert written.training.epochs == 2
    assert written.model.options == {"channels": [8, 8, 16, 16], "stem_width": 8}


def test_a_longer_run_goes_on_with_its_own_settings(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(words(data, out, "--set", TINY)) == 0
    assert main(["--out", str(out), "--resume", "--epochs", "3", "--device", "cpu"]) == 0
    assert "training.epochs was 2 and is 3" in capsys.readouterr().err
    epochs = [json.loads(line)["epoch"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert max(epochs) == 3


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--set", "training.epoch=3"], "epochs"),
        (["--set", "model.architecture=resnet_of_nobody"], "resnet_of_nobody"),
        (["--batch-size", "0"], "training.batch_size to be at least 1"),
        (["--data", "nowhere"], "train/cat/1.jpg"),
        (["--resume"], "experiment.yaml"),
        (["--device", "abacus"], "abacus"),
    ],
)
def test_mistakes_are_explained(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    code = main(words(data, tmp_path / "run", *more))
    answer = json.loads(capsys.readouterr().out)
    assert message in answer["error"]
    assert code == 2


def test_control_c_saves_and_says_how_to_go_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = TrainingImageBatches.epoch

    def epoch(self: TrainingImageBatches, number: int, start: int = 0) -> Iterator[LabeledBatch]:
        os.kill(os.getpid(), signal.SIGINT)
        yield from unbroken(self, number, start)

    monkeypatch.setattr(TrainingImageBatches, "epoch", epoch)
    out = tmp_path / "run"
    assert main(words(data, out, "--set", TINY)) == 130
    assert "continue with --resume" in json.loads(capsys.readouterr().out)["error"]
    monkeypatch.setattr(TrainingImageBatches, "epoch", unbroken)
    assert main(["--out", str(out), "--resume", "--device", "cpu"]) == 0
    assert "resuming after step 1" in capsys.readouterr().err


def test_a_detector_starts_from_the_run(data: Path, tmp_path: Path) -> None:
    recipe = imagenet_folder("resnet10t", data, epochs=1, batch_size=4, image_size=32)
    model = replace(recipe.model, norm="group", options=NANO["backbone"]["options"])
    recipe = replace(recipe, model=model, training=replace(recipe.training, workers=0))
    assert isinstance(recipe, ImageClassification)
    run_image_classification(recipe, tmp_path / "run", device="cpu")
    said: list[str] = []
    detector: Any = build(default_experiment("dino_nano"), Classes.numbered(1), tmp_path / "run", said.append)
    network, _ = load_classifier(tmp_path / "run")
    trained = network.state_dict()["layer1.0.conv1.weight"]
    assert torch.equal(detector.backbone.body.state_dict()["layer1.0.conv1.weight"], trained)
    assert "Backbone initialized from" in said[0]
