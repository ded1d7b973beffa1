"""A model given away is the model that comes back, with a card that says so; the hub is asked only when meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub.errors import LocalEntryNotFoundError

import smidgen
from smidgen.checkpoints import from_pretrained, hub, load, push_to_hub, save, save_pretrained
from smidgen.checkpoints.model_card import model_card
from smidgen.structures import Classes

CLASSES = Classes(("car", "pipe | dream"), (3, 7))
EVALUATION = {
    "protocol": "aitod@1",
    "metrics": {"AP": 0.123456, "APvt": 0.05, "APl": -1, "AP50": 0.3},
    "per_class": {"car": {"AP": 0.2, "AP50": -1}, "pipe | dream": {"AP": 0.1, "AP50": 0.2}},
}


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return smidgen.create_model("fcos_nano", classes=CLASSES, width=16, head_layers=1)


class FakeHub:
    """Keeps what was uploaded."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: bool | None = None

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> None:
        if self.failure is not None:
            raise self.failure
        assert exist_ok
        self.private = private
        self.repositories[repo_id] = {}

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        assert commit_message
        self.repositories[repo_id] = {file.name: file.read_bytes() for file in Path(folder_path).iterdir()}


@pytest.fixture
def run(tmp_path: Path, model: torch.nn.Module) -> Path:
    folder = tmp_path / "run"
    save(model, folder / "best")
    (folder / "val").mkdir()
    (folder / "val" / "evaluation.json").write_text(json.dumps(EVALUATION))
    (folder / "odd").mkdir()
    (folder / "odd" / "evaluation.json").write_text("{")
    return folder


def assert_same_model(found: Any, expected: Any) -> None:
    assert (found.name, found.config, found.classes) == (expected.name, expected.config, expected.classes)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor)


def test_folder_round_trip(tmp_path: Path, model: torch.nn.Module) -> None:
    folder = save_pretrained(model, tmp_path / "shared", evaluations={"val": EVALUATION})
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert_same_model(from_pretrained(folder), model)
    assert_same_model(load(str(folder)), model)


def test_run_is_pushed_with_its_results_and_comes_back(
    run: Path, tmp_path: Path, model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = FakeHub()
    assert push_to_hub(run, "somebody/cars", private=True, api=api) == "https://huggingface.co/somebody/cars"
    assert api.private is True
    files = api.repositories["somebody/cars"]
    card = files["README.md"].decode()
    assert 'smidgen.load("somebody/cars")' in card
    assert "### val, protocol aitod@1" in card

    asked: list[dict[str, Any]] = []

    def snapshot(repository: str, **options: Any) -> str:
        asked.append(options)
        for name in options["allow_patterns"]:
            (tmp_path / "cache").mkdir(exist_ok=True)
            (tmp_path / "cache" / name).write_bytes(files[name])
        return str(tmp_path / "cache")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.chdir(tmp_path)
    assert_same_model(smidgen.load("somebody/cars"), model)
    assert_same_model(from_pretrained("somebody/cars", revision="v1", local_files_only=True), model)
    assert (asked[0]["revision"], asked[1]["revision"], asked[1]["local_files_only"]) == (None, "v1", True)


def test_card_has_what_the_hub_and_people_read(run: Path, tmp_path: Path) -> None:
    card = (save_pretrained(run, tmp_path / "out", license="cc-by-4.0") / "README.md").read_text()
    _, header, text = card.split("---\n", 2)
    facts = yaml.safe_load(header)
    assert (facts["license"], facts["library_name"]) == ("cc-by-4.0", "smidgen")
    assert facts["pipeline_tag"] == "object-detection"
    (results,) = facts["model-index"]
    figures = {metric["type"]: metric["value"] for metric in results["results"][0]["metrics"]}
    assert figures == {"AP": 0.1235, "AP50": 0.3, "APvt": 0.05}
    assert "| 7 | pipe \\| dream |" in text
    assert "| car | 0.2000 | - |" in text
    assert "Short side 384 px" in text
    assert str(tmp_path) not in card


def test_card_without_results(model: torch.nn.Module, tmp_path: Path) -> None:
    folder = save_pretrained(model, tmp_path)
    card = (folder / "README.md").read_text()
    assert "Not evaluated yet" in card
    assert "license of the weights" in card
    (folder / "README.md").write_text("mine")
    assert (save_pretrained(model, folder) / "README.md").read_text() == "mine"
    description = json.loads((folder / "config.json").read_text()) | {"metrics": {"AP": 0.5}, "protocol": "coco@1"}
    assert "| AP | 0.5000 |" in model_card(description, {}) and "## Objects" not in model_card(description, {})
    description["object_sizes"] = {"count": 7, "median_px": 8.0, "percentile_99_px": 31.5, "largest_px": 40.0}
    assert "7 in training" in model_card(description, {}) and "of 99 % at most 31.5 px" in model_card(description, {})


def test_a_card_that_somebody_wrote_is_pushed(run: Path, tmp_path: Path) -> None:
    folder = save_pretrained(run, tmp_path / "shared")
    (folder / "README.md").write_text("mine")
    api = FakeHub()
    push_to_hub(folder, "somebody/cars", api=api)
    assert api.repositories["somebody/cars"]["README.md"] == b"mine"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("owner/name", True), ("owner/name.v2-x", True), ("name", False), ("a/b/c", False), ("../name", False),
        ("./name", False), ("/owner/name", False), ("owner/model.pth", False), ("here/name", False), ("", False),
        ("C:/name", False), ("owner/", False),
    ],
)  # fmt: skip
def test_what_means_a_repository(name: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    assert hub.is_repository(name) is expected


def test_hub_out_of_reach_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(repository: str, **options: Any) -> str:
        raise LocalEntryNotFoundError("Cannot find an appropriate cached snapshot folder\nand more")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(
        ValueError, match=r"no folder some/body here, and the Hugging Face hub cannot be asked.*hf download"
    ):
        load("some/body")


def test_failed_upload_is_said(model: torch.nn.Module) -> None:
    with pytest.raises(OSError, match=r"could not upload to some/body .*no right.*hf auth login"):
        push_to_hub(model, "some/body", api=FakeHub(ConnectionError("no right")))
