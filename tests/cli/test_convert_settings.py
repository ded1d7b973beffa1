"""`smidgen convert --set`: what a file does not tell, said on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from smidgen.checkpoints import load
from smidgen.checkpoints.counting_layouts import DQ_DETR
from smidgen.checkpoints.renaming import to_official
from smidgen.cli.app import main
from smidgen.models import create_model

BACKBONE = "{name: resnet10t, options: {channels: [8, 8, 8, 8], stem_width: 4}}"
TRANSFORMER = {"width": 32, "num_heads": 4, "feed_forward": 16, "encoder_layers": 1, "decoder_layers": 1}
BACKBONE_SETTINGS = {"name": "resnet10t", "options": {"channels": [8, 8, 8, 8], "stem_width": 4}}


@pytest.fixture(scope="module")
def counting_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model that divides counts at 4."""
    model = create_model(
        "dq_detr_r50",
        num_classes=2,
        backbone=BACKBONE_SETTINGS,
        transformer=TRANSFORMER,
        count_thresholds=(4,),
        budgets=(3, 6),
    )
    file = tmp_path_factory.mktemp("official") / "official.pth"
    torch.save({"model": to_official(DQ_DETR, model)}, file)
    return file


def convert(capsys: pytest.CaptureFixture[str], file: Path, out: Path, *changes: str) -> tuple[int, dict[str, Any]]:
    words = [word for change in changes for word in ("--set", change)]
    code = main(["convert", str(file), "--system", "dq_detr", "--out", str(out), *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_fields_with_and_without_model_in_front(
    counting_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ("count_thresholds=[4]", "model.budgets=[3, 6]", "transformer.num_heads=4", f"backbone={BACKBONE}")
    code, answer = convert(capsys, counting_file, tmp_path, *changes)
    assert code == 0 and answer["assumed"] == {} and answer["left_out"] == []
    config = load(tmp_path).config
    assert (config.count_thresholds, config.budgets, config.transformer.num_heads) == ((4,), (3, 6), 4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ((), "1 in count_thresholds and 2 in budgets"),
        (("count_thresholds=[4]", "budgets=[3, 6]", "budget=[3]"), "did you mean model.budgets"),
        (("count_thresholds=4",), "model.count_thresholds"),
        (("transformer=3", "count_thresholds=[4]", "budgets=[3, 6]"), "model.transformer"),
        (("classes=coco.json",), "'classes' is not a field of a model"),
        (("budgets",), "after --set"),
    ],
)
def test_what_is_missing_or_misspelled_is_said(
    changes: tuple[str, ...], words: str, counting_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer = convert(capsys, counting_file, tmp_path / "ours", *changes)
    assert code == 2 and words in answer["error"]
    assert not (tmp_path / "ours").exists()
