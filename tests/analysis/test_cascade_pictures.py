"""Pictures of dense detectors: where small objects are sensed, and what was computed."""

from __future__ import annotations

import json
from pathlib import Path

import observation_cases
import pytest
import torch
from torch import nn

from smidgen.analysis.cascade_pictures import (
    computed_cells_picture,
    computed_shares_chart,
    count_computed,
    query_heat_picture,
    why_no_computed_cells,
    why_no_query_heat,
)
from smidgen.analysis.dense_observation import DenseSight, Pointing
from smidgen.analysis.explanation import explain
from smidgen.analysis.observation import Observation
from smidgen.data import DetectionDataset, open_dataset
from smidgen.data.synthetic import SceneConfig, generate
from smidgen.decoder.cascaded_head import ComputedCells, ComputedLevel
from smidgen.inference.query_scores import QueryScores
from smidgen.models import create_model
from smidgen.structures import Cells, DenseOutput
from smidgen.tokens.cascade_sparse_query import CascadeSparseQuery, with_context

SHAPES = ((16, 24), (8, 12), (4, 6))  # strides 4, 8, 16 on the canvas of 64 x 96; image 1 shows in its upper left part
SMALL_BOX, LARGE_BOX = [8.0, 8.0, 16.0, 16.0], [40.0, 20.0, 90.0, 60.0]


def _seen(keys: list[tuple[int, int, int]]) -> Observation:
    """keys: (image, row, column) of the level of stride 4, with one cell of context."""
    mask = torch.zeros(2, *SHAPES[0], dtype=torch.bool)
    for image, row, column in keys:
        mask[image, row, column] = True
    chosen = Cells.where(mask)
    level = ComputedLevel(0, chosen, with_context(chosen, 1), torch.ones(len(chosen)))
    scores = torch.full((2, *SHAPES[1]), 0.1)
    scores[0, 1:2, 1:2] = 0.8
    pointing = Pointing(QueryScores({1: scores}, (4, 8, 16), SHAPES, None), {1: 32.0}, CascadeSparseQuery(0.15, 1, 1))
    evidence = (ComputedCells((level,)),)
    output = DenseOutput((), (4, 8, 16), (64, 96), observation_cases.SIZES, (), evidence)
    seen = observation_cases.observation(boxes=[SMALL_BOX, LARGE_BOX], evidence=evidence)
    return Observation(seen.images, seen.targets, seen.output, dense=DenseSight(output, pointing))


def test_shares_are_of_the_cells_in_the_image_and_small_objects_without_a_key_are_counted() -> None:
    (row,) = computed_cells_picture(_seen([(0, 3, 3), (1, 7, 11), (1, 15, 23)]), 0).data["levels"]
    assert row["cells"] == 16 * 24
    assert row["keys"] == pytest.approx(1 / 384) and row["computed"] == pytest.approx(9 / 384)
    assert (row["small_objects"], row["with_key_at_center"]) == (1, 1)
    assert computed_cells_picture(_seen([(0, 9, 12)]), 0).data["levels"][0]["with_key_at_center"] == 0


def test_computed_shares_leave_the_padding_out_and_add_up() -> None:
    one = count_computed(_seen([(0, 3, 3), (1, 7, 11), (1, 15, 23)]))
    # Image 1 has 8 x 12 cells; around the key in their corner four are computed, the other key is in the padding.
    assert one.active[:, 0] == pytest.approx([9 / 384, 4 / 96])
    both = one + one
    assert computed_shares_chart(both).data["images"] == 4
    assert both.to_json()["levels"][0]["computed"] == pytest.approx((9 / 384 + 4 / 96) / 2)


def test_the_heat_on_small_objects_is_told_from_that_elsewhere(tmp_path: Path) -> None:
    picture = query_heat_picture(_seen([(0, 3, 3)]), 0)
    (row,) = picture.data["levels"]
    assert row["mean_on_objects"] == pytest.approx(0.8) and row["mean_elsewhere"] == pytest.approx(0.1)
    assert (row["cells"], row["above_threshold"]) == (96, 1)
    assert picture.save(tmp_path / "heat.png").stat().st_size > 5_000


def test_a_model_of_the_detr_family_has_neither() -> None:
    seen = observation_cases.observation()
    assert "no query head" in str(why_no_query_heat(seen)) and "no cascade" in str(why_no_computed_cells(seen))
    with pytest.raises(ValueError, match="expected a model with a query head"):
        query_heat_picture(seen, 0)
    with pytest.raises(ValueError, match="expected a model with a cascade"):
        computed_cells_picture(seen, 0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    folder = tmp_path_factory.mktemp("scenes")
    generate(folder, SceneConfig(size_wh=(96, 64), objects=(2, 4), side_px=(6.0, 16.0)), splits={"val": 2})
    return open_dataset(folder, "val")


def _model(dataset: DetectionDataset, name: str) -> nn.Module:
    torch.manual_seed(2)
    return create_model(name, classes=dataset.classes, preprocessing={"short_side": 64, "long_side": 96}).eval()


@pytest.mark.parametrize("name", ["query_det_nano", "query_det_faster_rcnn_nano", "fcos_nano"])
def test_dense_detectors_are_explained_by_what_applies(name: str, dataset: DetectionDataset, tmp_path: Path) -> None:
    found = explain(_model(dataset, name), dataset, tmp_path, images=1, batch_size=2)
    points = name.startswith("query_det")
    assert ("computed_cells" in found.missing) is ("query_heat" in found.missing) is not points
    assert "dense detector" in found.missing["query_levels"] and "dense detector" in found.missing["query_activation"]
    assert {"score_by_size", "detection_counts"} <= set(found.totals)
    assert ("computed_shares" in found.totals) is points
    drawn = json.loads(found.tables.read_text())["images"][0]
    assert {"query_heat", "computed_cells"} & set(drawn) == ({"query_heat", "computed_cells"} if points else set())
    assert found.page.read_text().count("its cells answer") >= 2
