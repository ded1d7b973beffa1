"""The main job through the command line: train, resume, evaluate, predict, and what a user gets wrong."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from smidgen.__main__ import main

TINY = {
    "system": "dino_nano",
    "model": {
        "num_queries": 12,
        "denoising_queries": 4,
        "num_levels": 2,
        "backbone": {"options": {"channels": [16, 16, 16, 16], "stem_width": 32}, "strides": [16, 32]},
        "transformer": {"width": 32, "num_heads": 2, "feed_forward": 32, "encoder_layers": 1, "decoder_layers": 1},
        "preprocessing": {"short_side": 64, "long_side": 96},
    },
    "training": {"epochs": 2, "batch_size": 2, "memory_forecast": False, "ema_decay": 0.5},
}

Command = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def smidgen(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command with --json: (exit code, the object on stdout, stderr). Never more on stdout than the object."""

    def run(*arguments: object) -> tuple[int, dict[str, Any], str]:
        capsys.readouterr()
        code = main([*map(str, arguments), "--json"])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, json.loads(out), err

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("command_line")


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    return make_dataset(folder / "data")


@pytest.fixture(scope="module")
def experiment(folder: Path) -> Path:
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(TINY))
    return file


@pytest.fixture(scope="module")
def run(folder: Path, data: Path, experiment: Path) -> Path:
    assert main(["train", str(experiment), "--data", str(data), "--out", str(folder / "run")]) == 0
    return folder / "run"


def make_dataset(root: Path, splits: tuple[str, ...] = ("train", "val")) -> Path:
    """Four images per split with bright squares, in COCO layout, category ids 5 and 9."""
    for split in splits:
        (root / split / "images").mkdir(parents=True)
        images, annotations = [], []
        for number in range(1, 5):
            generator = np.random.default_rng(number + 10 * splits.index(split))  # no image in two splits
            pixels = generator.integers(0, 60, (64, 80, 3), dtype=np.uint8)
            x = 8 * number
            pixels[10:20, x : x + 10] = (255, 40, 40) if number % 2 else (40, 40, 255)
            Image.fromarray(pixels).save(root / split / "images" / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "width": 80, "height": 64})
            category = 5 if number % 2 else 9
            annotation = {"bbox": [x, 10, 10, 10], "area": 100, "iscrowd": 0, "category_id": category}
            annotations.append({"id": number, "image_id": number, **annotation})
        categories = [{"id": 5, "name": "red"}, {"id": 9, "name": "blue"}]
        document = {"images": images, "annotations": annotations, "categories": categories}
        (root / split / "annotations.json").write_text(json.dumps(document))
    return root


def test_train_fills_the_run_folder(run: Path) -> None:
    written = {path.name for path in run.iterdir()}
    assert {
        "experiment.yaml",
        "environment.json",
        "metrics.jsonl",
        "best",
        "last",
        "train_samples",
        "log.txt",
    } <= written
    experiment = yaml.safe_load((run / "experiment.yaml").read_text())
    assert experiment["model"]["num_classes"] == 2 and experiment["model"]["num_queries"] == 12


def test_a_written_experiment_runs_again_and_gives_the_same(smidgen: Command, run: Path, folder: Path) -> None:
    code, answer, _ = smidgen("train", run / "experiment.yaml", "--out", folder / "again")
    assert code == 0 and set(answer) == {"run", "best", "metrics", "seconds"}
    losses = [
        [json.loads(line).get("loss") for line in (one / "metrics.jsonl").open()] for one in (run, folder / "again")
    ]
    assert losses[0] == losses[1] and any(losses[0])
    assert (run / "experiment.yaml").read_text() == (folder / "again" / "experiment.yaml").read_text()


def test_what_was_recognized_is_said(smidgen: Command, data: Path, experiment: Path, folder: Path) -> None:
    options = ("--out", folder / "said", "--epochs", "1", "--set", "data.first_images=2", "training.seed=3")
    code, _, err = smidgen("train", experiment, "--data", data, *options)
    assert code == 0
    assert "coco layout" in err and "2 images, 2 objects, 2 classes (red, blue)" in err


def test_resume_goes_on_with_more_epochs(smidgen: Command, run: Path, folder: Path) -> None:
    shutil.copytree(run, folder / "longer")
    code, answer, err = smidgen("train", "--out", folder / "longer", "--resume", "--epochs", "3")
    assert code == 0, answer
    assert "resuming after step 4" in err
    steps = [json.loads(line)["step"] for line in (folder / "longer" / "metrics.jsonl").open()]
    assert steps[-1] == 6


def test_evaluate_writes_figures_and_predictions(smidgen: Command, run: Path, data: Path) -> None:
    code, answer, _ = smidgen("evaluate", run, "--data", data, "--protocol", "aitod", "--bootstrap", "5")
    assert code == 0
    assert answer["protocol"].startswith("aitod@") and {"AP", "AP50", "APvt"} <= set(answer["metrics"])
    assert set(answer["per_class"]) == {"red", "blue"} and "AP" in answer["intervals"]
    predictions = json.loads((run / "val" / "predictions.json").read_text())
    assert {prediction["category_id"] for prediction in predictions} <= {5, 9}


def test_evaluate_in_tiles_names_them_beside_the_figures(smidgen: Command, run: Path, data: Path) -> None:
    code, answer, err = smidgen("evaluate", run, "--data", data, "--tile", "48", "--overlap", "16px")
    assert code == 0 and "memory above the model" in err
    assert (answer["settings"]["tiling"]["tile_px"], answer["settings"]["tiling"]["overlap_px"]) == (48, 16)
    assert answer == json.loads((run / "val-tile48" / "evaluation.json").read_text())
    assert answer["settings"]["images"] == 4
    code, refusal, _ = smidgen("evaluate", run, "--data", data, "--overlap", "16px")
    assert code == 2 and "--overlap belong to tiled prediction" in refusal["error"]


def test_predict_gives_pictures_and_json(smidgen: Command, run: Path, data: Path, folder: Path) -> None:
    mixed = folder / "mixed"
    for name in ("a", "b"):
        shutil.copytree(data / "val" / "images", mixed / name)
    (mixed / "a" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (mixed / os.fsdecode(b"caf\xe9.png")).write_bytes((data / "val" / "images" / "1.png").read_bytes())
    code, answer, err = smidgen("predict", run, mixed, "--out", folder / "found", "--score", "0", "--batch-size", "2")
    assert code == 0
    assert answer == json.loads((folder / "found" / "predictions.json").read_text())
    assert answer["counts"]["images"] == 9 and answer["counts"]["unreadable"] == 1
    assert "broken.jpg" in err
    detection = answer["images"][0]["detections"][0]
    assert set(detection) == {"bbox", "score", "category_id", "category"}
    assert detection["category"] == {5: "red", 9: "blue"}[detection["category_id"]]
    assert len(list((folder / "found" / "pictures").rglob("*.png"))) == 9


def test_check_finds_what_would_be_lost(smidgen: Command, data: Path, tmp_path: Path) -> None:
    assert smidgen("check", data)[0] == 0
    damaged = Path(shutil.copytree(data, tmp_path / "damaged"))
    (damaged / "val" / "images" / "2.png").write_bytes(b"")
    (damaged / "train" / "images" / "3.png").unlink()
    code, answer, _ = smidgen("check", damaged)
    assert code == 3
    found = {(error["kind"], Path(error["file"]).name) for error in answer["errors"]}
    assert {("unreadable_image", "2.png"), ("missing_image", "3.png")} <= found
    assert answer["counts"]["missing_image"] == 1


def test_synth_draws_a_dataset_that_check_accepts(smidgen: Command, tmp_path: Path) -> None:
    options = ("--count", 2, "--val-count", 1, "--size", "64x64", "--density", "1-3", "--objects", "6-12")
    code, answer, _ = smidgen("synth", tmp_path / "scenes", *options, "--classes", "car,bus", "--seed", 3)
    assert code == 0 and answer["train"] == 2
    code, answer, _ = smidgen("check", tmp_path / "scenes")
    assert code == 0 and answer["splits"]["train"]["images"] == 2 and answer["splits"]["train"]["classes"] == 2
    assert smidgen("synth", tmp_path / "scenes", "--count", 1)[0] == 2


MISTAKES = {
    "no such data": ("train dino_nano --data {folder}/nothing --out {tmp}/r", "there is no dataset at"),
    "no such split": ("evaluate {run} --data {data} --split test", "no split 'test'; found: train, val"),
    "no such split to check": ("check {data} --split tarin", "no split 'tarin'; found: train, val"),
    "no such data to check": ("check {folder}/nothing --split train", "there is no dataset at"),
    "no such model": ("train dino_nan --data {data} --out {tmp}/r", "did you mean dino_nano"),
    "no model": ("train --data {data} --out {tmp}/r", "expected a MODEL"),
    "two models": ("train dino_nano dino_r50 --data {data} --out {tmp}/r", "expected one MODEL"),
    "no data": ("train dino_nano --out {tmp}/r", "--data"),
    "unknown field": (
        "train dino_nano --data {data} --out {tmp}/r --set training.epohcs=3",
        "did you mean 'training.epochs'",
    ),
    "bare unknown field": ("train dino_nano model.num_querys=3 --data {data} --out {tmp}/r", "'model.num_queries'"),
    "wrong type": ("train dino_nano --data {data} --out {tmp}/r --set training.epochs=few", "expected int, got 'few'"),
    "out of range": ("train dino_nano --data {data} --out {tmp}/r --epochs 0", "training.epochs"),
    "existing run": ("train {experiment} --data {data} --out {run}", "add --resume to continue"),
    "nothing to resume": ("train dino_nano --data {data} --out {tmp}/r --resume", "no run to resume"),
    "other model resumed": ("train dino_r50 --out {run} --resume", "expected dino_nano"),
    "no such recipe": ("train --recipe overfit17 --data {data} --out {tmp}/r", "did you mean 'overfit16'"),
    "no such experiment": ("train {tmp}/no.yaml --data {data} --out {tmp}/r", "no.yaml"),
    "no such protocol": ("evaluate {run} --data {data} --protocol aitd", "did you mean 'aitod"),
    "no such checkpoint": ("evaluate {tmp} --data {data}", "expected a checkpoint"),
    "no such device": ("predict {run} {data} --out {tmp}/p --device gpu9", "expected a device that is here"),
    "no such image": ("predict {run} {tmp}/no.jpg --out {tmp}/p", "no.jpg does not exist"),
    "no images": ("predict {run} {empty} --out {tmp}/p", "found no images"),
    "score out of range": ("predict {run} {data} --out {tmp}/p --score 2", "score threshold in [0, 1]"),
    "no dataset there": ("check {empty}", "no known dataset layout"),
    "unknown class": ("synth {tmp}/s --classes zeppelin", "zeppelin"),
    "impossible density": ("synth {tmp}/s --size 64x64 --objects 30-60 --density 500", "at most"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_explained(
    mistake: str, smidgen: Command, run: Path, data: Path, experiment: Path, folder: Path, tmp_path: Path
) -> None:
    command, words = MISTAKES[mistake]
    (tmp_path / "empty").mkdir()
    places = {"run": run, "data": data, "experiment": experiment, "folder": folder, "tmp": tmp_path}
    code, answer, _ = smidgen(*command.format(empty=tmp_path / "empty", **places).split())
    assert code == 2, answer
    assert words in f"{answer['error']} {answer['hint']}"
    assert not (tmp_path / "r").exists(), "nothing is left behind by a mistake"


def test_classes_that_differ_are_refused_and_taken_over_by_init(
    smidgen: Command, run: Path, experiment: Path, tmp_path: Path
) -> None:
    other = make_dataset(tmp_path / "other")
    rename_classes(other, {"red": "boat", "blue": "plane"})
    code, answer, _ = smidgen("evaluate", run, "--data", other)
    assert code == 2 and "boat" in answer["error"] and "red" in answer["error"]
    rename_classes(other, {"plane": "blue"})
    code, _, err = smidgen("train", experiment, "--data", other, "--out", tmp_path / "r", "--init", run, "--epochs", 1)
    assert code == 0 and "shared classes kept: blue" in err


def rename_classes(root: Path, names: dict[str, str]) -> None:
    for file in root.glob("*/annotations.json"):
        document = json.loads(file.read_text())
        for category in document["categories"]:
            category["name"] = names.get(category["name"], category["name"])
        file.write_text(json.dumps(document))


def test_images_that_are_all_broken_fail(smidgen: Command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "zero.png").write_bytes(b"")
    code, answer, _ = smidgen("predict", run, tmp_path / "zero.png", "--out", tmp_path / "out")
    assert code == 1 and answer["counts"] == {"images": 0, "detections": 0, "unreadable": 1}


def test_an_interrupted_training_says_how_to_go_on(
    smidgen: Command, data: Path, experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from smidgen.training import Interrupted

    def interrupted(*_: object, **__: object) -> None:
        raise Interrupted(tmp_path / "r", 3)

    monkeypatch.setattr("smidgen.recipes.running.train", interrupted)
    code, answer, _ = smidgen("train", experiment, "--data", data, "--out", tmp_path / "r")
    assert code == 130 and "after step 3" in answer["error"] and "--resume" in answer["hint"]
