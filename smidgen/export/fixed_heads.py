"""Heads of a dense detector in fixed shapes: everywhere, or as its cascade would choose, with masks in place of lists.

What the cascade leaves out is computed all the same and then not answered: a list of chosen cells has a length that the
image decides, which runtimes handle badly or not at all. The detections are those of the cascade, at the cost of the
dense heads. Values outside the active cells count as zero before every layer, as in submanifold convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from smidgen.decoder.cascaded_head import answers_and_queries
from smidgen.models.dense import Querying
from smidgen.nn.sparse_convolution import dense_maps, read
from smidgen.structures import Cells, FeaturePyramid, ImageBatch, LevelAnswers
from smidgen.tokens.cascade_sparse_query import children_of_map, near_map


@dataclass(frozen=True, slots=True)
class FixedLevels:
    """Answers of all cells of all levels, finest first. answered: per level True at the cells that may answer, None =
    all; the logits of the others are -inf. pyramid: what the answers were computed from.
    """

    answers: tuple[LevelAnswers, ...]
    answered: tuple[Bool[Tensor, "B _ _"] | None, ...]
    pyramid: FeaturePyramid

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels per cell."""
        return self.pyramid.strides

    def counts(self, level: int) -> Int[Tensor, " B"]:
        """Answers of each image on a level."""
        answers, mask = self.answers[level], self.answered[level]
        if mask is None:
            mask = torch.ones((answers.batch, *answers.shape), dtype=torch.bool, device=answers.logits.device)
        return mask.flatten(1).sum(dim=1) * answers.logits.shape[1]


def heads_in_fixed_shapes(detector: Any, images: ImageBatch) -> FixedLevels:
    """Backbone, neck and heads of a `DenseDetector` or the first stage of a `TwoStageDetector`."""
    pyramid = detector.neck(detector.backbone(images.normalized(detector.preprocessing)))
    paddings = [None] * len(pyramid.levels) if detector.see_padding else list(pyramid.padding)
    querying: Querying | None = detector.querying
    if querying is not None and querying.cascade is not None:
        return _cascaded(pyramid, detector.head, querying, paddings)
    levels = enumerate(zip(pyramid.levels, paddings, strict=True))
    answers = tuple(detector.head(features, level=level, padding=padding) for level, (features, padding) in levels)
    return FixedLevels(answers, (None,) * len(answers), pyramid)


def _cascaded(pyramid: FeaturePyramid, head: Any, querying: Querying, paddings: Sequence[Tensor | None]) -> FixedLevels:
    """As `smidgen.decoder.cascaded_head.run_cascade`."""
    cascade: Any = querying.cascade
    levels, start = pyramid.levels, cascade.start
    dense, (logits,) = answers_and_queries(head, querying.head, levels[start:], paddings[start:], [0], start)
    answers: list[LevelAnswers] = list(dense)
    answered: list[Tensor | None] = [None] * len(dense)
    for level in reversed(range(start)):
        parent_padding, padding = paddings[level + 1], paddings[level]
        logits = logits if parent_padding is None else logits.masked_fill(parent_padding, -torch.inf)
        valid = torch.ones_like(levels[level][:, 0], dtype=torch.bool) if padding is None else ~padding
        keys = children_of_map(cascade.fires(logits, _shape(levels[level]), valid), _shape(levels[level])) & valid
        active = near_map(keys, cascade.context) & valid
        answer, logits = _on_level(head, querying.head, levels[level], active, keys, level)
        answers.insert(0, answer)
        answered.insert(0, keys)
    return FixedLevels(tuple(answers), tuple(answered), pyramid)


def _on_level(
    head: Any, query_head: Any, features: Tensor, active: Bool[Tensor, "B H W"], keys: Bool[Tensor, "B H W"], level: int
) -> tuple[LevelAnswers, Tensor]:
    """Answers, -inf where a cell is no key, and query logits likewise."""
    outputs = [read(found, None) for branch in head.branches() for found in dense_maps(features, branch, active)]
    none = keys.new_zeros(0, dtype=torch.long)
    nowhere = Cells(none, none, none, _shape(features), features.shape[0])
    answers = replace(head.answers(outputs, nowhere, level), cells=None)
    hidden = ~keys.flatten()[:, None, None]
    answers = replace(answers, logits=answers.logits.masked_fill(hidden, -torch.inf))
    queries = dense_maps(features, query_head.branches()[0], active)[0][:, 0] if level else features[:, 0]
    return answers, queries.masked_fill(~keys, -torch.inf)


def _shape(level: Tensor) -> tuple[int, int]:
    return level.shape[2], level.shape[3]
