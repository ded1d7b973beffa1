from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from square_dataset import square_dataset

from smidgen.__main__ import main
from smidgen.checkpoints import save
from smidgen.cli.compare import named_systems
from smidgen.data import open_dataset
from smidgen.evaluation.cached_detections import detections_key
from smidgen.models import create_model
from smidgen.structures import Classes

Command = Callable[..., tuple[int, dict[str, Any], str]]
IMAGES = 12


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return square_dataset(tmp_path / "data")


@pytest.fixture
def smidgen(capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: object) -> tuple[int, dict[str, Any], str]:
        code = main([*map(str, arguments), "--json"])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, json.loads(out), err

    return run


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    boxes = [[10.0, 10.0, 12.0, 12.0], [30.0, 5.0, 9.0, 20.0]]
    annotations = [
        {"image_id": image, "category_id": 5, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for image in range(IMAGES)
        for box in boxes
    ]
    document = {
        "images": [{"id": image, "file_name": f"{image}.png", "width": 64, "height": 48} for image in range(IMAGES)],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, start=1)],
        "categories": [{"id": 5, "name": "car"}],
    }
    file = tmp_path / "truth.json"
    file.write_text(json.dumps(document))
    return file


def results(truth: Path, name: str, every: int) -> Path:
    """A file that misses the second object on every so-manieth image."""
    entries = json.loads(truth.read_text())["annotations"]
    found = [entry for entry in entries if entry["id"] % 2 or entry["image_id"] % every]
    keys = ("image_id", "category_id", "bbox")
    file = truth.with_name(name)
    file.write_text(json.dumps([{**{key: entry[key] for key in keys}, "score": 0.8} for entry in found]))
    return file


def test_results_files(smidgen: Command, truth: Path, tmp_path: Path) -> None:
    good, same, bad = (
        results(truth, f"{name}.json", every) for name, every in (("good", 100), ("same", 100), ("bad", 2))
    )
    options = ("--ground-truth", truth, "--metrics", "AP,AP50", "--samples", 50, "--out", tmp_path / "out")
    code, answer, _ = smidgen("compare", good, same, bad, *options)
    assert code == 0
    assert [system["name"] for system in answer["systems"]] == ["good.json", "same.json", "bad.json"]
    _, equal, worse = (system["differences"] for system in answer["systems"])
    assert equal["AP"]["value"] == 0.0 and equal["AP"]["interval"] == [0.0, 0.0]
    assert equal["AP"]["verdict"] == "cannot be told apart" and worse["AP"]["verdict"] == "worse"
    assert answer["protocol"] == "coco@1" and str(truth) in answer["data"]
    assert answer == json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 10_000


@pytest.mark.parametrize(("protocol", "unit"), [("visdrone", 100.0), ("soda_d", 1.0)])
def test_other_protocols_keep_their_units(protocol: str, unit: float, smidgen: Command, truth: Path) -> None:
    good, bad = (results(truth, f"{name}.json", every) for name, every in (("good", 100), ("bad", 2)))
    options = ("--ground-truth", truth, "--protocol", protocol, "--samples", 20)
    code, answer, _ = smidgen("compare", good, bad, *options)
    assert code == 0 and answer["protocol"] == f"{protocol}@1"
    first, second = answer["systems"]
    # The good file lacks one of 24 objects, the bad one 6.
    assert 0.9 * unit < first["metrics"]["AP"]["value"] < unit
    assert -0.3 * unit < second["differences"]["AP"]["value"] < -0.1 * unit
    assert second["differences"]["AP"]["verdict"] == "worse"


def test_groups_and_the_table(truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b, c = (results(truth, f"{name}.json", every) for name, every in (("a", 2), ("b", 3), ("c", 4)))
    group = f"system={a},{b}"
    assert main(["compare", str(c), "--group", group, "--ground-truth", str(truth), "--samples", "20"]) == 0
    out = capsys.readouterr().out
    assert "A: c.json" in out and "B: system, 2 seeds" in out and "difference to A" in out
    assert "cannot tell" in out and "…" not in out, "80 columns are enough"
    assert "Fewer than five seeds" in out and "A run of one seed" in out


def test_models_are_run_once(smidgen: Command, tmp_path: Path, data: Path) -> None:
    runs = [tiny_checkpoint(tmp_path / name, seed) for name, seed in (("first", 0), ("second", 1))]
    command = ("compare", *runs, "--data", data, "--samples", 5, "--out", tmp_path / "out", "--metrics", "AP")
    code, answer, err = smidgen(*command)
    assert code == 0 and "earlier comparison" not in err
    assert answer["experiment_differences"] == {"model.num_queries": {"first": 12, "second": 13}}
    code, again, err = smidgen(*command)
    assert code == 0 and err.count("earlier comparison") == 2
    assert again["systems"] == answer["systems"]


def test_the_key_follows_weights_and_images(tmp_path: Path, data: Path) -> None:
    first, second = (tiny_checkpoint(tmp_path / str(seed), seed) for seed in (0, 1))
    dataset = open_dataset(data, "val")
    key = detections_key(first, dataset)
    assert key == detections_key(first, dataset) != detections_key(second, dataset)
    assert key != detections_key(first, dataset.subset([0]))
    dataset.records[0].file.write_bytes(b"changed")
    assert key != detections_key(first, dataset)


def test_names_are_what_tells_paths_apart(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "val" / "p.json", tmp_path / "b" / "val" / "p.json"]
    assert list(named_systems(paths, [])) == ["a", "b"]
    assert list(named_systems([tmp_path / "a" / "x", tmp_path / "b" / "x", tmp_path / "a" / "y"], [])) == [
        "a/x",
        "b/x",
        "a/y",
    ]
    assert list(named_systems([tmp_path / "a"], [f"g={tmp_path / 'b'},{tmp_path / 'c'}"])) == ["a", "g"]
    assert list(named_systems([], ["g=x,y"])) == ["g"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("one.json", "at least two runs"),
        ("one.json one.json", "twice"),
        ("one.json two.json", "missing option --ground-truth"),
        ("one.json run", "missing option --data"),
        ("one.json --group two.json", "expected a name of its own"),
        ("one.json two.json --protocol cocoo", "did you mean"),
        ("run other --data .", "expected a checkpoint"),
        ("one.json two.json --data . --ground-truth truth.json", "got both"),
        ("one.json two.json --ground-truth truth.json", "is not valid JSON"),
    ],
)
def test_mistakes_are_explained(
    words: str, expected: str, smidgen: Command, truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one.json", "two.json"):
        (tmp_path / name).write_text("[")
    code, answer, _ = smidgen("compare", *words.split())
    assert code == 2 and expected in answer["error"], answer


def tiny_checkpoint(folder: Path, seed: int) -> Path:
    """An untrained detector of two classes."""
    torch.manual_seed(seed)
    settings = {
        "num_queries": 12 + seed,
        "denoising_queries": 4,
        "num_levels": 2,
        "backbone": {"options": {"channels": [16, 16, 16, 16], "stem_width": 32}, "strides": [16, 32]},
        "transformer": {"width": 32, "num_heads": 2, "feed_forward": 32, "encoder_layers": 1, "decoder_layers": 1},
        "preprocessing": {"short_side": 64, "long_side": 96},
    }
    return save(create_model("dino_nano", classes=Classes(("red", "blue"), (4, 9)), **settings), folder)
