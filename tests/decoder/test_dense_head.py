"""Heads say the same of chosen cells as of all, with the weights they have at that moment."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from smidgen.decoder.dense_head import DenseHead, QueryHead, ScaledDistances
from smidgen.nn.merged_batch_norm import MergedBatchNorm
from smidgen.structures import Cells, LevelAnswers

WIDTH, CLASSES = 6, 3
LAYERS = 2


def _with_large_weights(head: nn.Module) -> nn.Module:
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.3)
    return head.double().eval()


def _point_head(norm: bool = True) -> DenseHead:
    distances = ScaledDistances((4, 8, 16))
    made = DenseHead(
        WIDTH, CLASSES, 1, LAYERS, centerness=True, regression=distances, norm=MergedBatchNorm if norm else None
    )
    return _with_large_weights(made)


def _features(batch: int = 2) -> Tensor:
    return torch.randn(batch, WIDTH, 7, 9).double()


def _assert_same(found: LevelAnswers, expected: LevelAnswers, rows: Tensor) -> None:
    for name in ("logits", "regression", "centerness"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs[rows], atol=1e-10, rtol=0)


@pytest.mark.parametrize("head", [_with_large_weights(DenseHead(WIDTH, CLASSES, 9, LAYERS)), _point_head()])
def test_where_all_cells_are_active_the_keys_get_the_dense_answers(head: DenseHead) -> None:
    features, active = _features(), Cells.all_of(2, (7, 9))
    keys = Cells.where(torch.rand(2, 7, 9) < 0.2)
    with torch.no_grad():
        found = head.on_cells(features, active, keys, level=1)
        _assert_same(found, head(features, level=1), keys.index)
    assert found.cells is keys


def test_a_query_head_says_the_same_of_chosen_cells() -> None:
    head, features = _with_large_weights(QueryHead(WIDTH, LAYERS)), _features()
    keys = Cells.where(torch.rand(2, 7, 9) < 0.2)
    with torch.no_grad():
        found = head.on_cells(features, Cells.all_of(2, (7, 9)), keys)
        torch.testing.assert_close(found, head(features).flatten()[keys.index], atol=1e-10, rtol=0)


def test_channels_are_ordered_answer_by_answer() -> None:
    head, features = DenseHead(WIDTH, CLASSES, 9, LAYERS), _features(1).float()
    answers = head(features)
    raw = head.class_prediction(head.class_tower([features], [None])[0])
    assert answers.logits.shape == (63, 9, CLASSES)
    assert answers.logits[9 * 2 + 4, 5, 1] == raw[0, 5 * CLASSES + 1, 2, 4]


def test_initial_values_are_the_official_ones() -> None:
    head, query_head = DenseHead(256, 80, 9), QueryHead(256)
    assert sum(parameter.numel() for parameter in head.parameters()) == 6_463_220
    assert sum(parameter.numel() for parameter in query_head.parameters()) == 2_362_625
    torch.testing.assert_close(head.class_prediction.bias.sigmoid(), torch.full((720,), 0.01))
    assert head.box_tower.convolutions[0].weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert head.class_tower.convolutions[3].bias.count_nonzero() == 0
    assert head.box_prediction.bias.count_nonzero() == 36
    xavier = math.sqrt(2 / (2 * 256 * 9))
    assert query_head.tower.convolutions[1].weight.std().item() == pytest.approx(xavier, rel=0.02)
    assert query_head.prediction.bias.item() == 0


def test_distances_are_pixels_by_stride_and_a_scale_for_each_level() -> None:
    raw = torch.tensor([[[-1.0, 0.0, 1.0, 2.0]]])
    part = ScaledDistances((4, 8))
    with torch.no_grad():
        part.scales[1] = 0.5
    assert part(raw, 1).tolist() == [[[0, 0, 4, 8]]]
    torch.testing.assert_close(ScaledDistances((4, 8), "exp")(raw, 0), 4 * raw.exp())
    with pytest.raises(ValueError, match="relu"):
        ScaledDistances((4,), "softplus")


def test_merged_norms_need_all_levels_at_once_in_training() -> None:
    head = DenseHead(WIDTH, CLASSES, 1, LAYERS, norm=MergedBatchNorm).train()
    levels = [torch.randn(1, WIDTH, 8, 8), 3 * torch.randn(1, WIDTH, 4, 4)]
    together, alone = head.on_levels(levels), [head(level) for level in levels]
    assert not torch.allclose(together[0].logits, alone[0].logits)
    head.eval()
    together, alone = head.on_levels(levels), [head(level) for level in levels]
    assert all(torch.equal(a.logits, b.logits) for a, b in zip(together, alone, strict=True))


def test_what_is_in_padded_cells_changes_nothing() -> None:
    head, features = _point_head(norm=False), _features(1)
    padding = torch.zeros(1, 7, 9, dtype=torch.bool)
    padding[:, 5:] = True
    with torch.no_grad():
        cut = head(features[:, :, :5])
        _assert_same(cut, head(features, padding=padding), torch.arange(45))
