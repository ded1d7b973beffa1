"""Which weight an object's side gives, how it decays, and whose mean is divided out."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from hypothesis import given
from hypothesis import strategies as st

from smidgen.losses import GIoULoss, L1Loss, ScaleWeighting
from smidgen.structures import Matches, Predictions, SupervisedSet, Target


def _set(sides_px, size_hw=(800, 800), predicted=None):
    """One image with square objects of these sides, each matched by the query of its index."""
    sides = torch.tensor(sides_px)
    corners = torch.full((len(sides), 2), 16.0)
    boxes = torch.cat([corners, corners + sides[:, None]], dim=1)
    target = Target.of(boxes, torch.zeros(len(sides), dtype=torch.long), size_hw)
    index = torch.arange(len(sides))
    predicted = torch.rand(1, max(len(sides), 1), 4) * 0.1 + 0.2 if predicted is None else predicted
    predictions = Predictions(torch.zeros(*predicted.shape[:2], 1), predicted)
    return SupervisedSet("final", 0, predictions, (target,), Matches(torch.zeros_like(index), index, index), 1.0)


def _weights(weighting, supervised, progress=0.0):
    return weighting(supervised, supervised.targets[0].boxes_cxcywh, progress)


def test_a_side_on_an_edge_belongs_to_the_wider_bin():
    sides = torch.tensor([3.99, 4.0, 7.99, 8.0, 15.9, 16.0, 31.9, 32.0, 500.0])
    expected = torch.tensor([3.0, 2.5, 2.5, 2.0, 2.0, 1.5, 1.5, 1.0, 1.0])
    torch.testing.assert_close(ScaleWeighting().weights_of(sides, 0.0), expected)


def test_weights_decay_linearly_to_one_at_half_of_the_training():
    side = torch.tensor([3.0])
    progress = [epoch / 24 for epoch in (0, 3, 6, 11, 12, 20)]
    found = [ScaleWeighting().weights_of(side, share).item() for share in progress]
    assert found == pytest.approx([3, 2.5, 2, 1 + 2 / 12, 1, 1])


def test_without_decay_weights_stay():
    assert ScaleWeighting(decay=0).weights_of(torch.tensor([3.0]), 1.0).item() == 3


@given(st.lists(st.floats(0.5, 700), min_size=1, max_size=20), st.floats(0, 1))
def test_weights_have_the_mean_one_and_never_grow_with_the_side(sides, progress):
    weights = _weights(ScaleWeighting(), _set(sorted(sides)), progress)
    assert weights.mean().item() == pytest.approx(1.0, rel=1e-5)
    assert bool((weights.diff() <= 0).all())


def test_sides_are_pixels_of_the_real_image_unless_a_constant_is_asked_for():
    small_image = _set([4.0, 100.0], size_hw=(200, 200))  # 4 px are 16 px of an image of 800
    assert _weights(ScaleWeighting(), small_image).tolist() == pytest.approx([2.5 / 1.75, 1 / 1.75])
    assert _weights(ScaleWeighting(constant_side_px=800), small_image).tolist() == pytest.approx([1.2, 0.8])


def test_objects_of_one_size_are_not_weighted():
    supervised = _set([3.0, 2.0, 3.5])
    for term, name in [(L1Loss, "l1"), (GIoULoss, "giou")]:
        plain, weighted = term()(supervised, 0.0)[name], term(weighting=ScaleWeighting())(supervised, 0.0)[name]
        torch.testing.assert_close(weighted, plain)


def test_each_pair_has_the_weight_of_its_own_object():
    supervised = _set([3.0, 100.0])
    turned = SupervisedSet(
        "final", 0, supervised.predictions, supervised.targets,
        Matches(torch.zeros(2, dtype=torch.long), torch.tensor([0, 1]), torch.tensor([1, 0])), 1.0,
    )  # fmt: skip
    boxes = supervised.targets[0].boxes_cxcywh.flip(0)
    assert ScaleWeighting()(turned, boxes, 0.0).tolist() == pytest.approx([0.5, 1.5])


def test_without_pairs_the_loss_is_zero_with_a_finite_gradient():
    predicted = torch.rand(1, 4, 4, requires_grad=True)
    L1Loss(weighting=ScaleWeighting())(_set([], predicted=predicted), 0.0)["l1"].backward()
    assert torch.equal(predicted.grad, torch.zeros_like(predicted))


def _on_process(rank, store):
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}/store", rank=rank, world_size=2)
    supervised = _set([3.0, 3.0] if rank == 0 else [])
    found = [_weights(ScaleWeighting(per_process_mean=alone), supervised) for alone in (False, True)]
    supervised = _set([3.0] if rank == 0 else [100.0])
    found += [_weights(ScaleWeighting(per_process_mean=alone), supervised) for alone in (False, True)]
    torch.save(found, f"{store}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("per_process_mean", [False, True])
def test_weights_that_have_decayed_wait_for_no_other_process(monkeypatch, per_process_mean):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda _: pytest.fail("waited"))
    weighting = ScaleWeighting(decay=0.5, per_process_mean=per_process_mean)
    assert _weights(weighting, _set([3.0, 100.0]), progress=0.5).tolist() == [1, 1]
    assert _weights(weighting, _set([]), progress=0.9).tolist() == []


def test_two_processes_share_one_mean(tmp_path):
    torch.multiprocessing.start_processes(_on_process, args=(str(tmp_path),), nprocs=2, start_method="fork")
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    flat = functools.partial(map, torch.Tensor.tolist)
    assert list(flat(first)) == [[1.0, 1.0], [1.0, 1.0], [1.5], [1.0]]
    assert list(flat(second)) == [[], [], [0.5], [1.0]]


@pytest.mark.parametrize(
    "settings",
    [{"bins_px": (4, 8)}, {"bins_px": (8, 4, 16, 32)}, {"weights": (3, 2, 1, 1, 0)}, {"decay": -1}],
)
def test_bins_and_weights_that_make_no_sense_are_refused(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=rf"model\.scale_{name}"):
        ScaleWeighting(**settings)
