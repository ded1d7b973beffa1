"""The published settings, and every row of the ablation tables from one model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from smidgen.checkpoints import save
from smidgen.data.synthetic.config import CLASS_NAMES, SceneConfig
from smidgen.data.synthetic.generate import generate
from smidgen.models import configure, create_model
from smidgen.models.dense_config import CascadeConfig
from smidgen.recipes.cascade_tables import main, settings_of
from smidgen.recipes.experiment import with_changes
from smidgen.recipes.named import run_recipe
from smidgen.recipes.overrides import parse_overrides


@pytest.mark.parametrize(("name", "steps", "drops"), [("coco", 90, (60, 80)), ("coco_3x", 270, (210, 250))])
def test_coco_drops_the_rate_at_the_published_steps(name: str, steps: int, drops: tuple[int, int]) -> None:
    training = run_recipe(f"query_det.{name}").training
    epoch = 118_287 / 16
    assert training.max_steps == 1000 * steps <= training.epochs * epoch
    assert training.milestones is not None
    assert [round(drop * epoch) for drop in training.milestones] == [1000 * drop for drop in drops]
    assert training.batch_size == 16 and training.warmup_steps == 1000
    assert not run_recipe(f"query_det.{name}").model.small_objects.own_cell, "as published"


def test_visdrone_has_its_own_weights_and_sizes() -> None:
    experiment = run_recipe("query_det.visdrone")
    model, training = experiment.model, experiment.training
    assert (model.level_weights, model.small_objects.gamma) == ("released_visdrone", 1.3)
    assert (model.readout.num_detections, model.readout.score_threshold) == (500, 1e-4)
    assert (training.batch_size, training.max_steps, training.epochs) == (8, 50_000, 16)
    assert model.preprocessing.resized_hw(765, 1360) == (2249, 3999), "the long side of a test image is 3999 px"
    assert experiment.data.augmentation.short_sides == (1200,) and experiment.data.augmentation.long_side == 1999


def test_the_released_score_thresholds() -> None:
    """Of the baseline 0.05 on COCO and 0.005 on VisDrone, of QueryDet 0.0001 on both."""
    found = {
        (system, name): run_recipe(f"query_det.{name}", system=system).model.readout.score_threshold
        for system in ("retinanet_r50", "query_det_r50")
        for name in ("coco", "visdrone")
    }
    assert list(found.values()) == [0.05, 0.005, 1e-4, 1e-4]


@pytest.mark.parametrize("system", ["retinanet_r50", "query_det_fcos_r50", "faster_rcnn_r50", "query_det_mobilenetv2"])
def test_baselines_and_other_detectors_are_trained_alike(system: str) -> None:
    model = run_recipe("query_det.visdrone", system=system).model
    assert getattr(model, "readout", model).num_detections == 500
    assert run_recipe("query_det.coco", system=system).pretrained


@pytest.mark.parametrize(
    "changes",
    [
        ["model.backbone.strides=[4,8,16,32]", "model.num_levels=6"],
        ["model.level_weights=linear"],
        ["model.backbone.strides=[4,8,16,32]", "model.num_levels=6", "model.level_weights=released_coco"],
    ],
)
def test_the_rows_of_table_3_can_be_built(changes: list[str]) -> None:
    experiment = with_changes(run_recipe("query_det.coco", system="retinanet_r50"), parse_overrides(changes))
    with torch.device("meta"):
        model = create_model("retinanet_r50", config=experiment.model)
    assert model.neck.num_levels == experiment.model.num_levels


def test_tables_vary_one_thing() -> None:
    config = configure("query_det_r50", {"num_classes": 2, "small_objects": {"levels": [1, 2, 3, 4]}})
    starts = settings_of(4, config)
    assert list(starts) == ["dense", "start P6", "start P5", "start P4", "start P3"]
    assert starts["start P6"] == CascadeConfig(start=4) and starts["dense"] is None
    assert [row.method for row in settings_of(5, config).values() if row] == ["cq", "ccq", "csq"]
    assert [row.context for row in settings_of(6, config).values() if row] == [0, 1, 2, 3, 4, 5]
    assert list(settings_of(6, config))[2] == "context 5x5"
    with pytest.raises(ValueError, match="QueryDet system"):
        settings_of(4, configure("retinanet_r50", {"num_classes": 2}))


def test_all_rows_come_from_one_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate(tmp_path / "scenes", SceneConfig(), splits={"val": 1})
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"preprocessing": {"short_side": 64, "long_side": 64}, "width": 16, "head_layers": 2}
    model = create_model("query_det_nano", num_classes=len(CLASS_NAMES), **sizes)
    save(model, tmp_path / "model")
    main([str(tmp_path / "model"), "--data", str(tmp_path / "scenes"), "--json"])
    tables = json.loads(capsys.readouterr().out)
    assert [len(tables[table]) for table in "456"] == [3, 4, 6]
    shares = [row["share"] for row in tables["6"]]
    assert shares == sorted(shares) and 0 < shares[0] <= 1
    assert tables["5"][0]["share"] == 1 and all(row["latency_ms"] > 0 for row in tables["5"])
    assert tables["4"][1]["name"] == "start P4"
    same = [tables["4"][1], tables["5"][3], tables["6"][2]]
    assert all({**row, "name": ""} == {**same[0], "name": ""} for row in same), "one setting is measured once"
    assert tables["4"][0] == tables["5"][0], "dense"
