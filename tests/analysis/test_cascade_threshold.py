"""The cascade's threshold chosen for a recall: all thresholds from one pass, the same cells as the cascade itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from smidgen.analysis.cascade_threshold import computed_scores, object_scores, path_scores, threshold_for_recall
from smidgen.data import DetectionDataset, open_dataset
from smidgen.data.synthetic import SceneConfig, generate
from smidgen.inference.query_scores import NOWHERE, QueryScores
from smidgen.losses.small_object_map import SmallObjectLoss
from smidgen.models import create_model
from smidgen.structures import Target
from smidgen.tokens.cascade_sparse_query import CascadeSparseQuery, on_map, with_context

SHAPES = ((7, 10), (4, 5), (2, 3))
STRIDES = (4, 8, 16)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    folder = tmp_path_factory.mktemp("scenes")
    generate(folder, SceneConfig(size_wh=(64, 64), objects=(3, 6), side_px=(4.0, 12.0)), splits={"val": 3})
    return open_dataset(folder, "val")


def _model(dataset: DetectionDataset, name: str = "query_det_nano", **settings: object) -> nn.Module:
    """Untrained query maps say the same of every cell; after this some fire and some do not."""
    torch.manual_seed(2)
    size = {"short_side": 64, "long_side": 64}
    model = create_model(name, classes=dataset.classes, preprocessing=size, **settings)
    if getattr(model, "query_head", None) is not None:
        with torch.no_grad():
            model.query_head.prediction.weight.mul_(200.0)
    return model.eval()


def _random_scores(seed: int) -> QueryScores:
    random = torch.Generator().manual_seed(seed)
    padding = [torch.zeros(2, *shape, dtype=torch.bool) for shape in SHAPES]
    padding[0][1, :, 6:], padding[1][1, :, 3:], padding[2][1, :, 2:] = True, True, True
    scores = {
        level: torch.rand(2, *SHAPES[level], generator=random).masked_fill(padding[level], NOWHERE) for level in (1, 2)
    }
    return QueryScores(scores, STRIDES, SHAPES, tuple(padding))


@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("threshold", [0.1, 0.4, 0.8])
def test_the_computed_cells_of_every_threshold_are_those_of_the_cascade(threshold: float, context: int) -> None:
    scores, cascade = _random_scores(int(10 * threshold)), CascadeSparseQuery(threshold, context)
    found = computed_scores(scores, path_scores(scores, 2), context)
    assert scores.padding is not None
    computed, logits = 0, scores.scores[2].logit(eps=1e-7).masked_fill(scores.padding[2], -torch.inf)
    for level in (1, 0):
        valid = ~scores.padding[level]
        keys = cascade.keys(logits, SHAPES[level], valid)
        computed += len(with_context(keys, context, valid))
        if level:
            logits = on_map(keys, scores.scores[level][keys.image, keys.row, keys.column].logit(eps=1e-7))
    assert int((found > threshold).sum()) == computed
    assert len(found) == sum(int((~scores.padding[level]).sum()) for level in (0, 1))


def test_an_object_survives_only_where_a_cell_of_its_and_all_cells_above_that_one_fire() -> None:
    scores = _random_scores(0).scores
    fine, coarse = torch.full_like(scores[1], 0.1), torch.full_like(scores[2], 0.2)
    fine[0, 1, 1], fine[0, 3, 4], coarse[0, 0, 0], coarse[0, 1, 2] = 0.9, 0.9, 0.6, 0.95
    paths = path_scores(QueryScores({1: fine, 2: coarse}, STRIDES, SHAPES, None), 2)
    boxes = [[10.0, 10.0, 14.0, 14.0], [33.0, 25.0, 39.0, 31.0], [12.0, 2.0, 20.0, 6.0]]
    target = Target.of(torch.tensor(boxes), torch.zeros(3, dtype=torch.long), (28, 40))
    found = object_scores(paths, STRIDES, target, SmallObjectLoss(), 0)
    # Below the first fires its coarse cell less; the last one's cells are the upper row's, which do not fire.
    torch.testing.assert_close(found, torch.tensor([0.6, 0.9, 0.1]))


def test_the_level_that_an_object_is_left_to_is_the_finest_one_to_which_it_is_small() -> None:
    paths = {1: torch.full((1, 8, 8), 0.3), 2: torch.full((1, 4, 4), 0.7)}
    boxes = torch.tensor([[20.0, 20.0, 30.0, 30.0], [4.0, 4.0, 44.0, 44.0], [0.0, 0.0, 64.0, 64.0]])
    target = Target.of(boxes, torch.zeros(3, dtype=torch.long), (64, 64))
    found = object_scores(paths, STRIDES, target, SmallObjectLoss(), 0)
    torch.testing.assert_close(found, torch.tensor([0.3, 0.7]))  # 10 px by P3, 40 px by P4; 64 px is not small


def test_the_chosen_threshold_is_the_highest_that_keeps_the_recall(dataset: DetectionDataset) -> None:
    model = _model(dataset)
    choice = threshold_for_recall(model, dataset, 0.8)
    assert choice.objects == sum(len(record.labels) for record in dataset.records)
    assert choice.recall >= 0.8
    assert all(point.recall < 0.8 for point in choice.curve if point.threshold > choice.threshold)
    pairs = list(zip(choice.curve, choice.curve[1:], strict=False))
    assert all(low.recall >= high.recall and low.share >= high.share for low, high in pairs)
    assert choice.curve[0].recall == 1.0
    assert choice.to_json()["curve"]["share"][0] == choice.curve[0].share


def test_what_cannot_be_chosen_is_said(dataset: DetectionDataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"recall above 0 and at most 1, got 1\.5"):
        threshold_for_recall(_model(dataset), dataset, 1.5)
    with pytest.raises(ValueError, match="no query head"):
        threshold_for_recall(_model(dataset, "retinanet_nano"), dataset)
    with pytest.raises(ValueError, match=r"set model\.cascade"):
        threshold_for_recall(_model(dataset, cascade=None), dataset)
    with pytest.raises(ValueError, match="try lower thresholds"):
        threshold_for_recall(_model(dataset), dataset, 1.0, thresholds=[0.9999999])
