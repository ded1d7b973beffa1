"""Which sets an output is supervised in, under which rules, normalizers and names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from smidgen.assignment import HungarianAssignment, QualityOneToMany
from smidgen.losses import (
    FocalClassification,
    GIoULoss,
    L1Loss,
    SetLoss,
    VarifocalClassification,
    mean_object_count,
    only_foreground,
)
from smidgen.structures import (
    DenoisingPredictions,
    DetectorOutput,
    Matches,
    OneToManyPredictions,
    Predictions,
    Target,
)

NUM_CLASSES = 4
TERMS = [(1.0, FocalClassification()), (5.0, L1Loss()), (2.0, GIoULoss())]
NAMES = {"classification", "l1", "giou"}


def _target(num_objects):
    corners = torch.rand(num_objects, 2) * 40
    boxes = torch.cat([corners, corners + torch.rand(num_objects, 2) * 30 + 5], dim=1)
    return Target.of(boxes, torch.randint(0, NUM_CLASSES, (num_objects,)), (80, 100))


def _predictions(batch=2, queries=6):
    boxes = torch.rand(batch, queries, 4) * 0.4 + 0.2
    return Predictions(torch.randn(batch, queries, NUM_CLASSES).requires_grad_(), boxes.requires_grad_())


def _denoising(layers=2):
    matches = Matches(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0]), torch.tensor([0, 1, 0]))
    return DenoisingPredictions(tuple(_predictions(queries=4) for _ in range(layers)), matches, repeats=1)


def _full_output():
    return DetectorOutput(
        final=_predictions(),
        auxiliary=(_predictions(), _predictions()),
        proposals=_predictions(),
        denoising=_denoising(3),
        one_to_many=OneToManyPredictions((_predictions(), _predictions()), repeats=2),
    )


def _unmatched(predictions, targets):
    nothing = torch.zeros(0, dtype=torch.long)
    return Matches(nothing, nothing, nothing)


def test_every_set_has_its_names_and_the_last_layer_the_shortest():
    losses = SetLoss(HungarianAssignment(), TERMS)(_full_output(), [_target(2), _target(1)], 0.0)
    suffixes = ["", "_0", "_1", "_proposals", "_denoising", "_denoising_0", "_denoising_1"]
    suffixes += ["_one_to_many", "_one_to_many_0"]
    assert set(losses) == {name + suffix for name in NAMES for suffix in suffixes}
    assert all(value.shape == () and value.isfinite() for value in losses.values())


def test_values_come_weighted():
    output, targets = DetectorOutput(_predictions()), [_target(2), _target(1)]
    single = SetLoss(HungarianAssignment(), [(1.0, L1Loss())])(output, targets, 0.0)["l1"]
    assert SetLoss(HungarianAssignment(), [(5.0, L1Loss())])(output, targets, 0.0)["l1"] == 5 * single


def test_each_layer_is_matched_by_itself():
    output, targets = _full_output(), [_target(2), _target(1)]
    sets = SetLoss(HungarianAssignment(), TERMS).supervised_sets(output, targets)
    for suffix, predictions, layer in [
        ("_0", output.auxiliary[0], 0),
        ("_1", output.auxiliary[1], 1),
        ("", output.final, 2),
    ]:
        alone = HungarianAssignment()(predictions, targets)
        assert torch.equal(sets[suffix].matches.query, alone.query) and sets[suffix].layer == layer
    assert sets["_0"].name == "auxiliary" and sets[""].name == "final" and sets["_proposals"].layer is None


def test_one_set_may_follow_another_rule():
    criterion = SetLoss(HungarianAssignment(), TERMS, assignments={"auxiliary": _unmatched})
    sets = criterion.supervised_sets(_full_output(), [_target(2), _target(1)])
    assert [len(sets[suffix].matches) for suffix in ("_0", "_1", "", "_proposals")] == [0, 0, 3, 3]


def test_a_rule_for_an_unknown_set_is_refused():
    with pytest.raises(ValueError, match=r"one_to_many, got auxilliary"):
        SetLoss(HungarianAssignment(), TERMS, assignments={"auxilliary": _unmatched})


def test_proposals_and_earlier_layers_may_share_a_rule_of_their_own():
    rule = QualityOneToMany(min_positives=3)
    criterion = SetLoss(HungarianAssignment(), TERMS, assignments={"auxiliary": rule, "proposals": rule})
    sets = criterion.supervised_sets(_full_output(), [_target(1), _target(1)])
    assert [len(sets[suffix].matches) for suffix in ("_0", "_1", "_proposals", "")] == [6, 6, 6, 2]


def test_earlier_layers_may_be_supervised_once_more_by_a_further_rule():
    output, targets = _full_output(), [_target(1), _target(1)]
    plain = SetLoss(HungarianAssignment(), TERMS)(output, targets, 0.0)
    rule = QualityOneToMany(min_positives=3)
    criterion = SetLoss(HungarianAssignment(), TERMS, further_assignments={"quality": rule})
    both = criterion(output, targets, 0.0)
    assert set(both) - set(plain) == {name + suffix for name in NAMES for suffix in ("_quality_0", "_quality_1")}
    assert all(both[name] == plain[name] for name in plain), "the one-to-one sets stay as they are"
    sets = criterion.supervised_sets(output, targets)
    assert sets["_quality_1"].predictions is output.auxiliary[1] and sets["_quality_1"].name == "quality"
    assert [len(sets[suffix].matches) for suffix in ("_quality_0", "_quality_1", "_0")] == [6, 6, 2]


def test_a_layer_once_more_under_its_own_rule_counts_twice():
    output, targets = _full_output(), [_target(2), _target(1)]
    losses = SetLoss(HungarianAssignment(), TERMS, further_assignments={"again": HungarianAssignment()})(
        output, targets, 0.0
    )
    assert all(losses[f"{name}_again_{layer}"] == losses[f"{name}_{layer}"] for name in NAMES for layer in range(2))


@pytest.mark.parametrize("name", ["auxiliary", "denoising"])
def test_further_rules_need_names_of_their_own(name):
    with pytest.raises(ValueError, match=f"names of their own.*got {name}"):
        SetLoss(HungarianAssignment(), TERMS, further_assignments={name: _unmatched})


def test_sums_may_be_divided_by_the_matches_instead_of_the_objects():
    output, targets, rule = _full_output(), [_target(1), _target(1)], QualityOneToMany(min_positives=3)
    by_objects = SetLoss(HungarianAssignment(), TERMS, assignments={"auxiliary": rule})
    by_matches = SetLoss(
        HungarianAssignment(), TERMS, assignments={"auxiliary": rule}, averaged_over_matches=("auxiliary",)
    )
    assert by_objects.supervised_sets(output, targets)["_0"].normalizer == 2
    assert by_matches.supervised_sets(output, targets)["_0"].normalizer == 6
    objects, matches = by_objects(output, targets, 0.0), by_matches(output, targets, 0.0)
    torch.testing.assert_close(objects["l1_0"], 3 * matches["l1_0"])
    assert objects["l1"] == matches["l1"]


def test_without_any_match_sums_are_divided_by_one():
    criterion = SetLoss(_unmatched, TERMS, averaged_over_matches=("final",))
    assert criterion.supervised_sets(DetectorOutput(_predictions()), [_target(2), _target(1)])[""].normalizer == 1


def test_averaging_an_unknown_set_is_refused():
    with pytest.raises(ValueError, match=r"averaged_over_matches for sets among .*quality, got aux$"):
        SetLoss(
            HungarianAssignment(), TERMS, further_assignments={"quality": _unmatched}, averaged_over_matches=["aux"]
        )


def test_binary_proposals_know_only_foreground():
    output, targets = _full_output(), [_target(2), _target(1)]
    sets = SetLoss(HungarianAssignment(), TERMS, proposal_labels=only_foreground).supervised_sets(output, targets)
    assert all(not target.labels.any() for target in sets["_proposals"].targets)
    assert all(torch.equal(ours.labels, theirs.labels) for ours, theirs in zip(sets[""].targets, targets, strict=True))


def test_denoising_matches_are_known_and_its_negatives_are_background():
    output = DetectorOutput(_predictions(), denoising=_denoising())
    targets = [_target(2), _target(1)]
    sets = SetLoss(_unmatched, TERMS).supervised_sets(output, targets)
    assert sets["_denoising"].matches is output.denoising.matches
    losses = SetLoss(_unmatched, TERMS)(output, targets, 0.0)
    losses["classification_denoising"].backward()
    logits = output.denoising.layers[-1].logits
    negative = logits.grad[0, 3]
    assert bool((negative > 0).all()), "every class of a negative is pushed down"
    assert logits.grad[0, 0, targets[0].labels[0]] < 0, "the true class of a positive is pushed up"


def test_repeated_objects_are_averaged_not_counted_again():
    once, targets = _denoising(1), [_target(2), _target(1)]
    layer, matches = once.layers[0], once.matches
    twice_layer = Predictions(layer.logits.repeat(1, 2, 1), layer.boxes_cxcywh.repeat(1, 2, 1))
    shifted = Matches(matches.image.repeat(2), torch.cat([matches.query, matches.query + 4]), matches.target.repeat(2))
    twice = DenoisingPredictions((twice_layer,), shifted, repeats=2)
    criterion = SetLoss(_unmatched, TERMS)
    one = criterion(DetectorOutput(_predictions(), denoising=once), targets, 0.0)
    two = criterion(DetectorOutput(_predictions(), denoising=twice), targets, 0.0)
    for name in NAMES:
        torch.testing.assert_close(one[f"{name}_denoising"], two[f"{name}_denoising"])


def test_without_denoising_queries_nothing_is_said_of_them():
    losses = SetLoss(HungarianAssignment(), TERMS)(DetectorOutput(_predictions()), [_target(2), _target(1)], 0.0)
    assert set(losses) == NAMES


def test_one_to_many_repeats_each_object():
    branch = OneToManyPredictions((_predictions(queries=9),), repeats=3)
    output = DetectorOutput(_predictions(), one_to_many=branch)
    supervised = SetLoss(HungarianAssignment(), TERMS).supervised_sets(output, [_target(2), _target(1)])["_one_to_many"]
    assert [len(target) for target in supervised.targets] == [6, 3] and supervised.normalizer == 9
    assert sorted((supervised.matches.target[supervised.matches.image == 0] % 2).tolist()) == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("classification", [FocalClassification(), VarifocalClassification()])
def test_images_without_objects_give_finite_connected_losses(classification):
    output = DetectorOutput(_predictions(), (_predictions(),), _predictions())
    terms = [(1.0, classification), (5.0, L1Loss()), (2.0, GIoULoss())]
    losses = SetLoss(HungarianAssignment(), terms)(output, [_target(0), _target(0)], 0.0)
    assert losses["l1"] == 0 and losses["giou_0"] == 0 and losses["classification"] > 0
    sum(losses.values()).backward()
    for predictions in (output.final, *output.auxiliary, output.proposals):
        assert predictions.boxes_cxcywh.grad.isfinite().all() and predictions.logits.grad.isfinite().all()


def test_bfloat16_output_under_autocast_gives_float32_losses():
    half = Predictions(torch.randn(2, 6, NUM_CLASSES).bfloat16() * 50, torch.rand(2, 6, 4).bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = SetLoss(HungarianAssignment(), TERMS)(DetectorOutput(half), [_target(2), _target(1)], 0.0)
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())


class _CountsItsCalls(nn.Module):
    """An evidence term with state."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, output, targets, progress):
        self.calls += 1
        return {"evidence": output.final.logits.sum() * progress}


def test_evidence_terms_are_weighted_and_their_state_is_saved():
    term, output = _CountsItsCalls(), DetectorOutput(_predictions())
    criterion = SetLoss(HungarianAssignment(), [], evidence_terms=[(2.0, term)])
    losses = criterion(output, [_target(2), _target(1)], 0.5)
    torch.testing.assert_close(losses["evidence"], output.final.logits.sum())
    assert [key.split(".")[-1] for key in criterion.state_dict()] == ["calls"] and term.calls == 1


def test_two_terms_of_one_name_are_refused():
    with pytest.raises(ValueError, match="both called l1"):
        SetLoss(HungarianAssignment(), [(1.0, L1Loss()), (1.0, L1Loss())])(
            DetectorOutput(_predictions()), [_target(2), _target(1)], 0.0
        )


def test_object_count_is_at_least_one():
    assert mean_object_count([_target(0)]) == 1 and mean_object_count([_target(2), _target(3)]) == 5


def _counts_on_rank(rank, rendezvous, results):
    torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    of_both = ([1, 6], [1, 0], [0, 0])
    results[rank] = [float(mean_object_count([_target(counts[rank])])) for counts in of_both]
    torch.distributed.destroy_process_group()


def test_object_count_is_averaged_over_processes(tmp_path):
    context = torch.multiprocessing.get_context("fork")
    with context.Manager() as manager:
        results = manager.dict()
        rendezvous = str(tmp_path / "rendezvous")
        workers = [context.Process(target=_counts_on_rank, args=(rank, rendezvous, results)) for rank in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(30)
        # Of one object in the whole batch each process has half, as one process with both images has the whole.
        assert dict(results) == {0: [3.5, 0.5, 0.5], 1: [3.5, 0.5, 0.5]}
