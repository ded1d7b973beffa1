"""The five systems written as compositions with stub parts: the structures carry what each paper needs.

Stubs compute nothing worth having; what is tested is that every idea has a stage to live in, that the skeleton never
learns an idea's name, and that ideas of different papers combine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smidgen.assignment import HungarianAssignment
from smidgen.losses import FocalClassification, L1Loss, SetLoss
from smidgen.models import create_model
from smidgen.models.detr import DETR
from smidgen.queries.topk import TopK
from smidgen.structures import (
    ActiveTokens,
    DetectorOutput,
    FeaturePyramid,
    ImageBatch,
    Matches,
    Memory,
    Places,
    Predictions,
    Proposals,
    QueryBudget,
    Target,
    Tokens,
    evidence_of,
)

NUM_CLASSES, WIDTH, BATCH = 3, 128, 2


@dataclass(frozen=True, slots=True)
class SalienceMaps:
    """Evidence of Salience DETR: a map per level, and the tokens each encoder layer refined."""

    logits: tuple[Tensor, ...]
    refined: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class ObjectCount:
    """Evidence of DQ-DETR: logits over classes of object counts."""

    logits: Tensor


@dataclass(frozen=True, slots=True)
class PatternWeights:
    """Evidence of PaQ-DETR: how much of each pattern a query is made of."""

    weights: Tensor


class SalienceEncoder(nn.Module):
    """Keeps its value tokens, refines the best half per layer, and scores tokens with the detector's own proposal
    head.
    """

    def __init__(self, layers: nn.ModuleList, proposals: nn.Module) -> None:
        super().__init__()
        self.layers, self.proposals = layers, proposals

    def forward(self, tokens: Tokens, pyramid: FeaturePyramid) -> Memory:
        score = self.proposals(tokens).logits.amax(-1)
        index = score.topk(score.shape[1] // 2, dim=1).indices
        rows = index[..., None].expand(-1, -1, WIDTH)
        refined = tokens.content.gather(1, rows) + tokens.position.gather(1, rows)
        memory = replace(
            tokens,
            content=tokens.content.scatter(1, rows, refined),
            active=ActiveTokens(index, torch.zeros_like(index, dtype=torch.bool)),
        )
        return Memory.of(memory, SalienceMaps((score,), (index,)))


class CountingEncoder(nn.Module):
    """Any encoder, followed by a count of objects on the finest level."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.count = encoder, nn.Linear(WIDTH, 4)

    def forward(self, tokens: Tokens, pyramid: FeaturePyramid) -> Memory:
        memory = self.encoder(tokens, pyramid)
        return replace(memory, evidence=(*memory.evidence, ObjectCount(self.count(memory.tokens.level(0).mean(1)))))


class CrossCodedEncoder(nn.Module):
    """Proposes from the encoder's tokens and decodes over tokens coded with the backbone's maps."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, tokens: Tokens, pyramid: FeaturePyramid) -> Memory:
        memory = self.encoder(tokens, pyramid)
        coded = memory.tokens.with_content(memory.tokens.content * tokens.content.sigmoid())
        return Memory(coded, memory.tokens, memory.evidence)


class CountedBudget(nn.Module):
    """Five queries for each class of counts, image by image."""

    def forward(self, memory: Memory) -> QueryBudget:
        count = evidence_of(memory.evidence, ObjectCount)
        assert count is not None
        return QueryBudget(20, 5 * (1 + torch.arange(len(count.logits))))


class Stratified(nn.Module):
    """A quota per level; a budget smaller than the quotas' sum leaves the last rows unused."""

    def forward(self, memory: Memory, proposals: Proposals | None, budget: QueryBudget) -> Places:
        assert proposals is not None
        starts = memory.proposal_tokens.starts
        score = proposals.logits.amax(-1)
        quotas = (budget.size - 6, 4, 2)
        index = torch.cat(
            [
                score[:, a:b].topk(quota, dim=1).indices + a
                for a, b, quota in zip(starts[:-1], starts[1:], quotas, strict=True)
            ],
            dim=1,
        )
        padding = None
        if budget.per_image is not None:
            padding = torch.arange(budget.size) >= budget.per_image[:, None]
        selected = proposals.gather(index, padding)
        level = memory.proposal_tokens.level_of_token(index)
        return Places(selected.boxes_cxcywh.detach(), index, level, predictions=selected, padding=padding)


class Patterns(nn.Module):
    """Convex combinations of shared patterns by one vector of the image."""

    def __init__(self, num_queries: int) -> None:
        super().__init__()
        self.patterns, self.mix = nn.Parameter(torch.randn(7, WIDTH)), nn.Linear(WIDTH, num_queries * 7)

    def weights(self, memory: Memory) -> Tensor:
        return self.mix(memory.tokens.content.mean(1)).unflatten(1, (-1, 7)).softmax(-1)

    def forward(self, memory: Memory, places: Places) -> Tensor:
        return self.weights(memory)[:, : places.reference.shape[1]] @ self.patterns


def _compose(**stages: Any) -> DETR:
    model = create_model("dino_nano", num_classes=NUM_CLASSES, num_queries=20)
    for name, stage in stages.items():
        setattr(model, name, stage(model))
    return model


SYSTEMS = {
    "salience_detr": lambda: _compose(encoder=lambda m: SalienceEncoder(m.encoder.layers, m.proposals)),
    "lsq_detr": lambda: _compose(
        encoder=lambda m: CountingEncoder(m.encoder), budget=lambda m: CountedBudget(), selection=lambda m: Stratified()
    ),
    "cross_dino": lambda: _compose(encoder=lambda m: CrossCodedEncoder(m.encoder)),
    "paq_detr": lambda: _compose(content=lambda m: Patterns(20)),
    "all at once": lambda: _compose(
        encoder=lambda m: CountingEncoder(CrossCodedEncoder(SalienceEncoder(m.encoder.layers, m.proposals))),
        budget=lambda m: CountedBudget(),
        selection=lambda m: Stratified(),
        content=lambda m: Patterns(20),
    ),
}


def _batch() -> tuple[ImageBatch, list[Target]]:
    images = ImageBatch.collate([torch.randint(0, 256, (3, 96, 96), dtype=torch.uint8) for _ in range(BATCH)])
    boxes = torch.tensor([[10.0, 10.0, 30.0, 40.0]])
    return images, [Target.of(boxes, torch.tensor([1]), (96, 96)) for _ in range(BATCH)]


@pytest.mark.parametrize("name", SYSTEMS)
def test_each_system_runs_trains_and_answers_per_image(name: str) -> None:
    model, (images, targets) = SYSTEMS[name](), _batch()
    output = model(images, targets)
    assert output.final.logits.shape == (BATCH, 20, NUM_CLASSES)
    assert len(output.auxiliary) == 2
    losses = _criterion()(output, targets, 0.5)
    sum(losses.values()).backward()
    assert all(value.isfinite() for value in losses.values())
    if output.final.padding is not None and "lsq" in name:
        assert (~output.final.padding).sum(1).tolist() == [5, 10]


class CountLoss(nn.Module):
    """An evidence term finds what its own encoder left, and says nothing of other models."""

    def forward(self, output: DetectorOutput, targets: Sequence[Target], progress: float) -> dict[str, Tensor]:
        count = evidence_of(output.evidence, ObjectCount)
        return {} if count is None else {"object_count": count.logits.square().mean()}


def _everyone(predictions: Predictions, targets: Sequence[Target]) -> Matches:
    """One-to-many: every query answers for the first object."""
    image = torch.arange(predictions.logits.shape[0]).repeat_interleave(predictions.logits.shape[1])
    query = torch.arange(predictions.logits.shape[1]).repeat(predictions.logits.shape[0])
    return Matches(image, query, torch.zeros_like(query))


def _criterion() -> SetLoss:
    return SetLoss(
        HungarianAssignment(),
        [(1.0, FocalClassification()), (5.0, L1Loss())],
        evidence_terms=[(1.0, CountLoss())],
        assignments={"auxiliary": _everyone},
    )


def test_layers_may_follow_different_assignment_rules() -> None:
    """PaQ-DETR: intermediate layers one-to-many, the last layer one-to-one."""
    model, (images, targets) = SYSTEMS["paq_detr"](), _batch()
    sets = _criterion().supervised_sets(model(images), targets)
    assert len(sets[""].matches) == BATCH
    assert len(sets["_0"].matches) == BATCH * 20


def test_evidence_reaches_the_loss_without_the_skeleton_knowing_it() -> None:
    model, (images, targets) = SYSTEMS["all at once"](), _batch()
    output = model(images)
    assert "object_count" in _criterion()(output, targets, 0.0)
    assert evidence_of(output.evidence, SalienceMaps) is not None
    assert evidence_of(output.evidence, PatternWeights) is None


def test_selections_and_budgets_of_different_papers_combine() -> None:
    model, (images, _) = (
        _compose(encoder=lambda m: CountingEncoder(m.encoder), budget=lambda m: CountedBudget()),
        _batch(),
    )
    assert isinstance(model.selection, TopK)
    output = model(images)
    assert output.final.padding is not None
    assert (~output.final.padding).sum(1).tolist() == [5, 10]


class CascadeDetector(nn.Module):
    """QueryDet has its own skeleton over the same values: dense heads on coarse levels, chosen cells on the finest.

    The cascade names cells, the head runs on all of them or on those, the loop over levels belongs to the skeleton.
    """

    def __init__(self, detr: DETR) -> None:
        super().__init__()
        self.backbone, self.neck = detr.backbone, detr.neck
        self.head, self.query_head = nn.Linear(WIDTH, NUM_CLASSES), nn.Linear(WIDTH, 1)

    def forward(self, images: ImageBatch) -> tuple[list[Tensor], ActiveTokens]:
        pyramid = self.neck(self.backbone(images))
        coarse = pyramid.levels[1].flatten(2).transpose(1, 2)
        scores = self.query_head(coarse)[..., 0]
        index = scores.topk(4, dim=1).indices
        active = ActiveTokens(index, torch.zeros_like(index, dtype=torch.bool))
        fine = pyramid.levels[0].unfold(2, 2, 2).unfold(3, 2, 2).flatten(4).flatten(2, 3).permute(0, 2, 3, 1)
        children = fine.gather(1, index[..., None, None].expand(-1, -1, 4, WIDTH))
        return [self.head(coarse), self.head(children)], active


def test_query_det_has_its_own_skeleton_over_the_same_values() -> None:
    images = ImageBatch.collate([torch.rand(3, 96, 96) for _ in range(BATCH)])
    (dense, sparse), active = CascadeDetector(create_model("dino_nano", num_classes=1))(images)
    assert dense.shape == (BATCH, 36, NUM_CLASSES)
    assert sparse.shape == (BATCH, 4, 4, NUM_CLASSES)
    assert active.index.shape == (BATCH, 4)
