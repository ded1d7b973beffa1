"""All sets of a step are matched together as each would be alone, with one copy from the device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smidgen.assignment import HungarianAssignment, QualityOneToMany
from smidgen.boxes import host_matching
from smidgen.boxes.host_matching import MatchRequest, match_together
from smidgen.structures import Predictions, Target

NUM_CLASSES = 3


def _targets(*counts: int) -> tuple[Target, ...]:
    corners = [torch.rand(count, 2) * 60 for count in counts]
    return tuple(
        Target.of(
            torch.cat([each, each + torch.rand_like(each) * 20 + 1], dim=1),
            torch.randint(0, NUM_CLASSES, (len(each),)),
            (80, 100),
        )
        for each in corners
    )


def _predictions(batch: int, queries: int, padded: int = 0) -> Predictions:
    padding = (torch.arange(queries) < padded).expand(batch, -1) if padded else None
    return Predictions(torch.randn(batch, queries, NUM_CLASSES), torch.rand(batch, queries, 4) * 0.5 + 0.1, padding)


def _same(first, second) -> bool:
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in ("image", "query", "target"))


def test_together_every_set_is_matched_as_it_is_alone() -> None:
    targets, others = _targets(5, 0, 2), _targets(1, 3, 4)
    one_to_one, one_to_many = HungarianAssignment(), QualityOneToMany(min_positives=2)
    requests = [
        MatchRequest(one_to_one, _predictions(3, 12), targets),
        MatchRequest(one_to_one, _predictions(3, 9, padded=3), targets),
        MatchRequest(one_to_many, _predictions(3, 12), targets),
        MatchRequest(one_to_one, _predictions(3, 12), others),
        MatchRequest(one_to_one, _predictions(3, 4), targets),
    ]
    together = match_together(requests)
    alone = [request.rule(request.predictions, request.targets) for request in requests]
    assert all(map(_same, together, alone)) and len(together[0]) == 7


def test_sets_that_share_rule_and_targets_are_figured_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []
    costs = HungarianAssignment.costs

    def watched(self, predictions, targets):
        asked.append(tuple(predictions.logits.shape))
        return costs(self, predictions, targets)

    monkeypatch.setattr(HungarianAssignment, "costs", watched)
    rule, targets = HungarianAssignment(), _targets(2, 1)
    match_together([MatchRequest(rule, _predictions(2, queries), targets) for queries in (6, 6, 8)])
    assert asked == [(2, 20, NUM_CLASSES)]


def test_problems_are_solved_side_by_side_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    rule, targets = HungarianAssignment(), _targets(4, 3)
    requests = [MatchRequest(rule, _predictions(2, 7), targets) for _ in range(3)]
    one_by_one = match_together(requests)
    monkeypatch.setattr(host_matching, "PAIRS_WORTH_THREADS", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(host_matching.os, "cpu_count", lambda: 4)
    assert all(map(_same, match_together(requests), one_by_one))


def test_a_solver_that_fails_is_heard_from_every_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(cost):
        raise RuntimeError(f"cannot solve {cost.shape}")

    monkeypatch.setattr(host_matching, "PAIRS_WORTH_THREADS", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(host_matching.os, "cpu_count", lambda: 2)
    with pytest.raises(RuntimeError, match=r"cannot solve \(5, 2\)"):
        match_together([MatchRequest(HungarianAssignment(solver=failing), _predictions(2, 5), _targets(2, 2))])


def test_of_several_sets_the_one_that_is_not_finite_is_refused_with_its_image() -> None:
    rule, targets = HungarianAssignment(), _targets(2, 2)
    broken = _predictions(2, 5)
    broken.boxes_cxcywh[1, 3, 0] = torch.nan
    with pytest.raises(ValueError, match=r"1 of 10 predictions \(images \[1\]"):
        match_together([MatchRequest(rule, each, targets) for each in (_predictions(2, 5), broken)])


def test_pairs_do_not_depend_on_how_many_are_figured_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from smidgen.assignment import hungarian

    predictions, targets = _predictions(2, 11), _targets(5, 3)
    whole = HungarianAssignment().costs(predictions, targets)
    monkeypatch.setattr(hungarian, "PAIRS_AT_ONCE", {"cpu": 12})
    for ours, expected in zip(HungarianAssignment().costs(predictions, targets), whole, strict=True):
        np.testing.assert_array_equal(ours.numpy(), expected.numpy())


def test_nothing_is_asked_for_nothing() -> None:
    assert match_together([]) == []
