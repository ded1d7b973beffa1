"""As many patterns as a model uses: pruned where few are at work, split where all are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from smidgen.checkpoints import load, save
from smidgen.data import DetectionDataset, open_dataset
from smidgen.data.synthetic import SceneConfig, generate
from smidgen.models import create_model
from smidgen.recipes import pattern_count
from smidgen.recipes.pattern_count import advised, choose_patterns
from smidgen.structures import ImageBatch

IMAGES = ImageBatch.collate([torch.full((3, 64, 64), 90, dtype=torch.uint8)])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    generate(folder, SceneConfig(size_wh=(64, 64), objects=(2, 4)), splits={"train": 3, "val": 1})
    return folder


@pytest.fixture
def dataset(data: Path) -> DetectionDataset:
    return open_dataset(data, "train")


def _model(dataset: DetectionDataset, **patterns: int) -> nn.Module:
    model = create_model(
        "paq_dino_nano", classes=dataset.classes, num_queries=20, patterns=patterns, preprocessing={"short_side": 64}
    )
    return model.eval()


def test_what_is_used_is_kept_and_where_all_are_used_there_are_more() -> None:
    assert advised(50, 20.2, 10) == 21
    assert advised(50, 49.0, 22) == 72


@torch.no_grad()
def test_patterns_that_no_query_at_work_uses_go(dataset: DetectionDataset) -> None:
    model = _model(dataset, number=8)
    model.encoder.stages[0].head.b[:, 3:] = -60.0
    changed, count = choose_patterns(model, dataset)
    assert count.patterns == 8 and count.effective <= 3 and count.chosen == changed.config.patterns.number <= 3
    assert count.queries == sum(len(record.labels) for record in dataset.records)


@torch.no_grad()
def test_more_patterns_answer_as_the_fewer_did(dataset: DetectionDataset) -> None:
    model = _model(dataset, number=8)
    changed, _ = choose_patterns(model, dataset, number=13)
    before, after = model(IMAGES).final, changed(IMAGES).final
    assert changed.config.patterns.number == 13
    torch.testing.assert_close(after.logits, before.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(after.boxes_cxcywh, before.boxes_cxcywh, atol=1e-4, rtol=0)


def test_what_cannot_be_chosen_is_refused(dataset: DetectionDataset) -> None:
    with pytest.raises(ValueError, match="at most 16"):
        choose_patterns(_model(dataset, number=8), dataset, number=17)
    with pytest.raises(ValueError, match="between 1 and 8"):
        choose_patterns(_model(dataset, number=8), dataset, number=0)
    with pytest.raises(ValueError, match="mixes patterns"):
        choose_patterns(create_model("dino_nano", classes=dataset.classes, num_queries=20), dataset)


def test_the_command_writes_a_model_that_loads(
    data: Path, dataset: DetectionDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(_model(dataset, number=8), tmp_path / "run")
    arguments = ["pattern_count", str(tmp_path / "run"), "--data", str(data), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", [*arguments, "--number", "5"])
    pattern_count.main()
    written = json.loads((tmp_path / "out" / "pattern_count.json").read_text())
    assert written["chosen"] == 5 == load(tmp_path / "out").config.patterns.number
