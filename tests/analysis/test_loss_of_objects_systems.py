"""Every system of the catalogue can be asked where it lost its objects, and failures planted in it are found."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from smidgen.analysis.loss_of_objects import trace_objects
from smidgen.analysis.loss_stages import STAGES, LossRules
from smidgen.analysis.object_fates import LostObjects
from smidgen.analysis.observation import observe
from smidgen.models import create_model, list_models
from smidgen.structures import ImageBatch, Target, Tokens

SIZES = ((64, 96), (48, 64))
# Between the centers of the cells of stride 16, so that only cells of stride 8 are theirs.
SMALL = [[12.0, 12.0, 20.0, 20.0], [60.0, 28.0, 68.0, 36.0]]
LEFT = 48
LEARNED = (
    "deformable_detr_one_stage",
    "deformable_detr_refine",
    "dn_deformable_detr",
    "paq_dn_deformable_detr",
)


def traced(model: nn.Module, boxes: list[list[float]], rules: LossRules | None = None) -> LostObjects:
    """Two images, of which the second has no objects."""
    pixels = [torch.randint(0, 255, (3, *size), dtype=torch.uint8) for size in SIZES]
    corners = [torch.tensor(own).reshape(-1, 4) for own in (boxes, [])]
    targets = [
        Target.of(own, torch.zeros(len(own), dtype=torch.long), size, image_id=number)
        for number, (own, size) in enumerate(zip(corners, SIZES, strict=True))
    ]
    with torch.inference_mode():
        return trace_objects(observe(model.eval(), ImageBatch.collate(pixels, 32), targets), rules)


def stages(lost: LostObjects) -> list[str]:
    return [row["stage"] for row in lost.fates.rows()]


def small_model(name: str, **changes: Any) -> Any:
    return create_model(name, num_classes=2, preprocessing={"short_side": 64, "long_side": 96}, **changes)


@pytest.mark.parametrize("name", list_models("*_nano"))
def test_every_system_says_where_its_objects_are_lost(name: str) -> None:
    boxes = [*SMALL, [30.0, 2.0, 33.0, 5.0], [20.0, 10.0, 90.0, 60.0]]
    lost = traced(small_model(name), boxes)
    values = lost.to_json()
    assert values["objects"] == 4 and values["found"] + values["missed"] == 4
    assert sum(row["missed"] or 0 for row in values["stages"]) == values["missed"]
    assert set(stages(lost)) <= {"found", *lost.stages}
    selects = not name.startswith((*LEARNED, "retinanet", "fcos", "query_det_nano", "query_det_fcos"))
    assert ("not_selected" in lost.stages) is selects
    assert ("not_queried" in lost.stages) is name.startswith("query_det")
    assert ("suppressed" in lost.stages) is name.startswith(("retinanet", "fcos", "faster_rcnn", "query_det"))
    assert ("filtered" in lost.stages) is name.startswith("salience")


class SalienceInTheRight(nn.Module):
    """No salience left of column `LEFT` of an image of 96 pixels."""

    def forward(self, tokens: Tokens) -> tuple[torch.Tensor, ...]:
        maps = []
        for rows, columns in tokens.shapes:
            salient = (torch.arange(columns) + 0.5) / columns * 96 > LEFT
            maps.append(torch.where(salient, 10.0, -1e4).expand(len(tokens.content), rows, columns))
        return tuple(maps)


def test_objects_in_a_region_without_salience_are_filtered() -> None:
    model = small_model("salience_detr_nano")
    (encoder,) = [part for part in model.modules() if hasattr(part, "level_ratios")]
    encoder.salience = SalienceInTheRight()
    filtered, passed = stages(traced(model, SMALL))
    assert filtered == "filtered" and passed not in ("filtered", "no_token")


@pytest.mark.parametrize("name", ["lsq_detr_nano", "paq_lsq_detr_nano"])
def test_a_quota_of_zero_on_the_finest_level_selects_no_query_at_small_objects(name: str) -> None:
    given = small_model(name).config.budgets
    lost = traced(small_model(name, budgets=(20,) * len(given), quotas={20: (0.0, 1.0)}), SMALL)
    assert stages(lost) == ["not_selected"] * 2


def test_a_cascade_that_asks_for_certainty_queries_nothing() -> None:
    model = small_model("query_det_nano", cascade={"threshold": 1.0})
    large = [4.0, 4.0, 90.0, 60.0]
    lost = traced(model, [*SMALL, large])
    assert stages(lost)[:2] == ["not_queried"] * 2 and stages(lost)[2] != "not_queried"
    assert "not_queried" not in stages(traced(small_model("query_det_nano", cascade={"threshold": -1.0}), SMALL))


@pytest.mark.parametrize("name", ["dino_5scale_nano", "salience_detr_5scale_nano"])
def test_a_sparse_finest_level_that_computes_nothing_loses_the_very_tiny(name: str) -> None:
    model = small_model(name, sparse_finest={"share": 0.05, "threshold": 0.999})
    very_tiny = [[17.0, 17.0, 20.0, 20.0], [41.0, 33.0, 44.0, 36.0]]
    assert stages(traced(model, very_tiny)) == ["not_queried"] * 2


def test_a_floor_of_one_finds_nothing_and_no_stage_is_forgotten() -> None:
    lost = traced(small_model("retinanet_nano"), SMALL, LossRules(score_floor=1.0))
    assert stages(lost) == ["low_score"] * 2
    assert lost.table[list(STAGES).index("low_score")].sum() == 2
