"""Turns a detector's output into supervised sets and adds up what the loss terms say about each.

Carion et al., "End-to-End Object Detection with Transformers", 2020, section 3.1; auxiliary losses after every decoder
layer from there, proposals from Zhu et al., "Deformable DETR", 2021, denoising from Li et al., "DN-DETR", 2022, and the
one-to-many branch from Jia et al., "DETRs with Hybrid Matching", 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import torch
import torch.distributed
from jaxtyping import Float
from torch import Tensor, nn

from smidgen.boxes.host_matching import MatchRequest, decides_on_host, match_together
from smidgen.structures import (
    DenoisingPredictions,
    DetectorOutput,
    Matches,
    OneToManyPredictions,
    Predictions,
    SupervisedSet,
    Target,
)

LabelRule: TypeAlias = Callable[[Sequence[Target]], tuple[Target, ...]]

MATCHED_SETS = ("final", "auxiliary", "proposals", "one_to_many")


class SetTerm(Protocol):
    """How wrong one supervised set is: unweighted scalars by name."""

    def __call__(self, supervised: SupervisedSet, progress: float) -> dict[str, Float[Tensor, ""]]: ...


class EvidenceTerm(Protocol):
    """How wrong something else in the output is (a salience map, a count): unweighted scalars by name."""

    def __call__(
        self, output: DetectorOutput, targets: Sequence[Target], progress: float
    ) -> dict[str, Float[Tensor, ""]]: ...


class Assignment(Protocol):
    """Which prediction answers for which object."""

    def __call__(self, predictions: Predictions, targets: Sequence[Target]) -> Matches: ...


class SetLoss(nn.Module):
    """The criterion of the DETR family: `criterion(output, targets, progress)`; the loss is the sum of the values.

    assignment: the rule for every set that has to be matched. terms, evidence_terms: (weight, term) pairs; a term that
    is a module is registered. assignments: other rules by set name ("final", "auxiliary", "proposals", "one_to_many").
    further_assignments: rules by which the earlier decoder layers are supervised once more, each under its own set name
    ("quality" makes the sets "_quality_0", "_quality_1" ...). averaged_over_matches: names of sets whose sums are
    divided by the number of their matches; all others' by the number of objects, so that a rule with more matches
    weighs more. proposal_labels: how targets are relabeled for proposals (None = as they are; `only_foreground`).
    All sets weigh the same.
    """

    def __init__(
        self,
        assignment: Assignment,
        terms: Sequence[tuple[float, SetTerm]],
        *,
        evidence_terms: Sequence[tuple[float, EvidenceTerm]] = (),
        assignments: Mapping[str, Assignment] | None = None,
        further_assignments: Mapping[str, Assignment] | None = None,
        averaged_over_matches: Collection[str] = (),
        proposal_labels: LabelRule | None = None,
    ) -> None:
        super().__init__()
        others, further = dict(assignments or {}), dict(further_assignments or {})
        _check_own_names(further)
        _check_set_names("assignments", others, MATCHED_SETS)
        _check_set_names("averaged_over_matches", averaged_over_matches, (*MATCHED_SETS, *further))
        self.assignments = dict.fromkeys(MATCHED_SETS, assignment) | others | further
        self.further_sets = tuple(further)
        self.averaged_over_matches = frozenset(averaged_over_matches)
        self.terms = tuple(terms)
        self.evidence_terms = tuple(evidence_terms)
        self.proposal_labels = proposal_labels
        every_term = [term for _, term in [*self.terms, *self.evidence_terms]]
        self.stateful_terms = nn.ModuleList([term for term in every_term if isinstance(term, nn.Module)])

    def forward(
        self, output: DetectorOutput, targets: Sequence[Target], progress: float
    ) -> dict[str, Float[Tensor, ""]]:
        """Weighted scalars: "<term>" for the last decoder layer, "<term>_<layer>" for earlier ones, and "<term>_<set>"
        or "<term>_<set>_<layer>" for the other sets.

        targets: one per image, on the output's device. progress: share of the training done, in [0, 1].
        """
        losses: dict[str, Tensor] = {}
        for suffix, supervised in self.supervised_sets(output, targets).items():
            for weight, term in self.terms:
                _add(losses, {name + suffix: weight * value for name, value in term(supervised, progress).items()})
        for weight, evidence_term in self.evidence_terms:
            values = evidence_term(output, targets, progress)
            _add(losses, {name: weight * value for name, value in values.items()})
        return losses

    def supervised_sets(self, output: DetectorOutput, targets: Sequence[Target]) -> dict[str, SupervisedSet]:
        """Each set by the suffix of its losses' names, with its matches. What is matched is matched together, with one
        copy from the device.
        """
        targets = tuple(targets)
        count = mean_object_count(targets, output.final.logits.device)
        layers = (*output.auxiliary, output.final)
        sets = _decoder_sets(layers, targets, count) | self._further_sets(output.auxiliary, targets, count)
        if output.proposals is not None:
            relabeled = targets if self.proposal_labels is None else self.proposal_labels(targets)
            sets["_proposals"] = _Unmatched("proposals", None, output.proposals, relabeled, count)
        if output.denoising is not None:
            sets |= _denoising_sets(output.denoising, targets, count)
        if output.one_to_many is not None:
            sets |= _one_to_many_sets(output.one_to_many, targets, count)
        matches = self._matches(sets)
        return {suffix: self._matched(each, matches[suffix]) for suffix, each in sets.items()}

    def _further_sets(
        self, layers: Sequence[Predictions], targets: tuple[Target, ...], count: Tensor | float
    ) -> dict[str, _Unmatched]:
        return {
            f"_{name}_{layer}": _Unmatched(name, layer, predictions, targets, count)
            for name in self.further_sets
            for layer, predictions in enumerate(layers)
        }

    def _matches(self, sets: Mapping[str, _Unmatched]) -> dict[str, Matches]:
        """Those of rules that decide on the host all at once; other rules are asked set by set."""
        requests: dict[str, MatchRequest] = {}
        matches = {suffix: each.known for suffix, each in sets.items() if each.known is not None}
        for suffix, each in sets.items():
            rule = self.assignments.get(each.name)
            if decides_on_host(rule):
                requests[suffix] = MatchRequest(rule, each.predictions, each.targets)
            elif rule is not None:
                matches[suffix] = rule(each.predictions, each.targets)
        return matches | dict(zip(requests, match_together(list(requests.values())), strict=True))

    def _matched(self, unmatched: _Unmatched, matches: Matches) -> SupervisedSet:
        name, predictions, normalizer = unmatched.name, unmatched.predictions, unmatched.normalizer
        if name in self.averaged_over_matches:
            normalizer = mean_count(len(matches), predictions.logits.device)
        return SupervisedSet(name, unmatched.layer, predictions, unmatched.targets, matches, normalizer)


@dataclass(frozen=True, slots=True)
class _Unmatched:
    """A supervised set before its matches are known, unless they are known by construction."""

    name: str
    layer: int | None
    predictions: Predictions
    targets: tuple[Target, ...]
    normalizer: Tensor | float
    known: Matches | None = None


def mean_object_count(targets: Sequence[Target], device: torch.device | str = "cpu") -> Float[Tensor, ""] | float:
    """`mean_count` of the objects of the batch."""
    return mean_count(sum(len(target) for target in targets), device)


def mean_count(number: int, device: torch.device | str = "cpu") -> Float[Tensor, ""] | float:
    """The number, at least 1; with several processes their sum divided by the number of processes, so that averaged
    losses and gradients are those of one process on the whole batch. (The official codes divide first, and count at
    least 1 each.)
    """
    count = float(number)
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return max(count, 1.0)
    total = torch.full((), count, device=device)  # filled there: nothing waits for a copy
    torch.distributed.all_reduce(total)
    return total.clamp(min=1.0) / torch.distributed.get_world_size()


def _decoder_sets(
    layers: Sequence[Predictions], targets: tuple[Target, ...], count: Tensor | float
) -> dict[str, _Unmatched]:
    names = ["auxiliary"] * (len(layers) - 1) + ["final"]
    return {
        _layer_suffix(layer, len(layers)): _Unmatched(name, layer, predictions, targets, count)
        for layer, (name, predictions) in enumerate(zip(names, layers, strict=True))
    }


def _denoising_sets(
    denoising: DenoisingPredictions, targets: tuple[Target, ...], count: Tensor | float
) -> dict[str, _Unmatched]:
    """Known matches on every layer; negatives and slots without an object are background."""
    normalizer = count * denoising.repeats
    return {
        "_denoising" + _layer_suffix(layer, len(denoising.layers)): _Unmatched(
            "denoising", layer, predictions, targets, normalizer, denoising.matches
        )
        for layer, predictions in enumerate(denoising.layers)
    }


def _one_to_many_sets(
    branch: OneToManyPredictions, targets: tuple[Target, ...], count: Tensor | float
) -> dict[str, _Unmatched]:
    repeated = tuple(_repeated(target, branch.repeats) for target in targets)
    return {
        "_one_to_many" + _layer_suffix(layer, len(branch.layers)): _Unmatched(
            "one_to_many", layer, predictions, repeated, count * branch.repeats
        )
        for layer, predictions in enumerate(branch.layers)
    }


def _layer_suffix(layer: int, num_layers: int) -> str:
    return "" if layer == num_layers - 1 else f"_{layer}"


def _repeated(target: Target, repeats: int) -> Target:
    return replace(target, boxes_xyxy=target.boxes_xyxy.repeat(repeats, 1), labels=target.labels.repeat(repeats))


def _check_set_names(option: str, names: Collection[str], known: Sequence[str]) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f"expected {option} for sets among {', '.join(known)}, got {', '.join(unknown)}")


def _check_own_names(names: Collection[str]) -> None:
    taken = sorted(set(names) & {*MATCHED_SETS, "denoising"})
    if taken:
        raise ValueError(f"expected names of their own for further_assignments, got {', '.join(taken)}")


def _add(losses: dict[str, Tensor], values: Mapping[str, Tensor]) -> None:
    twice = losses.keys() & values.keys()
    if twice:
        raise ValueError(f"two loss terms are both called {', '.join(sorted(twice))}; give each term its own name")
    losses.update(values)
