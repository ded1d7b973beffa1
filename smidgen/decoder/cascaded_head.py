"""The cascade over the levels: heads run densely on coarse levels, and on finer ones where the level above points.

Chenhongyi Yang, Zehao Huang, Naiyan Wang, "QueryDet: Cascaded Sparse Query for Accelerating High-Resolution Small
Object Detection", CVPR 2022, Section 3.3; the alternatives of its Table 5 are methods that can be passed in. The
official code takes one image at a time and runs the query head on the finest level, too, where nothing reads it;
neither is so here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

from jaxtyping import Bool, Float
from torch import Tensor

from smidgen.nn.crop_convolution import on_crops
from smidgen.nn.sparse_convolution import Branch, masked_dense, on_cells
from smidgen.structures import Cells, LevelAnswers
from smidgen.tokens.cascade_sparse_query import CascadeSparseQuery, on_map, restricted, with_context


class CellHead(Protocol):
    """A head that answers at all cells of levels, or takes its branches' predictions at chosen ones."""

    def on_levels(
        self, levels: Sequence[Tensor], paddings: Sequence[Tensor | None] | None = None, first_level: int = 0
    ) -> tuple[LevelAnswers, ...]: ...

    def branches(self) -> tuple[Branch, ...]: ...

    def answers(self, outputs: Sequence[Tensor], keys: Cells, level: int = 0) -> LevelAnswers: ...


class CellQueryHead(Protocol):
    """A head whose only prediction is the query logit."""

    def on_levels(
        self, levels: Sequence[Tensor], paddings: Sequence[Tensor | None] | None = None
    ) -> tuple[Tensor, ...]: ...

    def branches(self) -> tuple[Branch, ...]: ...


@dataclass(frozen=True, slots=True)
class ComputedLevel:
    """What was computed of one level.

    level: its index, finest 0. keys: cells that answer. active: cells that were computed. scores: of each key, the
    score of the query that chose it.
    """

    level: int
    keys: Cells
    active: Cells
    scores: Float[Tensor, " n"]

    @property
    def share(self) -> float:
        """Computed cells of all cells of the level, over the batch."""
        return len(self.active) / (self.active.batch * self.active.shape[0] * self.active.shape[1])


@dataclass(frozen=True, slots=True)
class ComputedCells:
    """Evidence of a cascade: the levels that were not computed densely, finest first."""

    levels: tuple[ComputedLevel, ...]

    @property
    def share(self) -> float:
        """Computed cells of all cells of these levels, over the batch; 1 where there are none."""
        total = sum(found.active.batch * found.active.shape[0] * found.active.shape[1] for found in self.levels)
        return sum(len(found.active) for found in self.levels) / total if total else 1.0


class CascadeAnswers(NamedTuple):
    """levels: finest first, at the keys only below `start`; query_logits: (level index, map) of the start level."""

    levels: tuple[LevelAnswers, ...]
    query_logits: tuple[tuple[int, Tensor], ...]
    computed: ComputedCells


class CellOutputs(NamedTuple):
    """Predictions at the keys, and the cells they were computed on."""

    outputs: tuple[Tensor, ...]
    active: Cells


QueryMethod: TypeAlias = Callable[[Tensor, Sequence[Branch], Cells, int, Tensor | None], CellOutputs]
"""(features "B C H W", branches, keys, context, valid "B H W" or None for all) -> outputs and the cells computed."""


def sparse_query(
    features: Float[Tensor, "B C H W"],
    branches: Sequence[Branch],
    keys: Cells,
    context: int,
    valid: Bool[Tensor, "B H W"] | None,
) -> CellOutputs:
    """CSQ: submanifold convolutions on the keys and their context."""
    active = with_context(keys, context, valid)
    return CellOutputs(on_cells(features, branches, active, keys), active)


def complete_query(
    features: Float[Tensor, "B C H W"],
    branches: Sequence[Branch],
    keys: Cells,
    context: int,
    valid: Bool[Tensor, "B H W"] | None,
) -> CellOutputs:
    """CCQ: the whole level densely, read at the keys; context does not matter."""
    everything = Cells.all_of(keys.batch, keys.shape, features.device)
    active = restricted(everything, valid)
    return CellOutputs(masked_dense(features, branches, active, keys), active)


def crop_query(
    features: Float[Tensor, "B C H W"],
    branches: Sequence[Branch],
    keys: Cells,
    context: int,
    valid: Bool[Tensor, "B H W"] | None,
) -> CellOutputs:
    """CQ: a crop for each query, as large as what its keys depend on; padded cells count as zero in the input only."""
    features = features if valid is None else features.masked_fill(~valid[:, None], 0.0)
    reach = max(branch.reach for branch in branches)
    return CellOutputs(on_crops(features, branches, keys), with_context(keys, reach, valid))


QUERY_METHODS: Mapping[str, QueryMethod] = {"csq": sparse_query, "cq": crop_query, "ccq": complete_query}


def answers_and_queries(
    head: CellHead,
    query_head: CellQueryHead,
    levels: Sequence[Tensor],
    paddings: Sequence[Tensor | None],
    queried: Sequence[int],
    first_level: int = 0,
) -> tuple[tuple[LevelAnswers, ...], tuple[Tensor, ...]]:
    """Answers of all cells of the levels, and the query logits of those of `queried`, which are positions among them.

    first_level: index of the first one. A trunk that both heads read (`ProposalHead`, `TrunkQueryHead`) runs once.
    """
    trunk: Any = getattr(query_head, "trunk", None)
    of_head: Any = getattr(head, "trunk", None)
    if trunk is None or trunk is not of_head:
        asked, hidden = [levels[index] for index in queried], [paddings[index] for index in queried]
        return head.on_levels(levels, paddings, first_level), query_head.on_levels(asked, hidden)
    maps = trunk(levels, paddings)
    of_trunk: tuple[Any, Any] = head, query_head
    return of_trunk[0].on_trunk(maps), of_trunk[1].on_trunk([maps[index] for index in queried])


def run_cascade(
    levels: Sequence[Tensor],
    head: CellHead,
    query_head: CellQueryHead,
    cascade: CascadeSparseQuery,
    *,
    method: QueryMethod = sparse_query,
    paddings: Sequence[Tensor | None] | None = None,
) -> CascadeAnswers:
    """Answers of all levels, those below `cascade.start` at their keys only.

    levels: features, finest first. paddings: per level True at padded cells, which are then neither computed nor
    chosen. A level whose parents do not fire has no answers, and neither have those below it.
    """
    start = cascade.start
    if start >= len(levels):
        raise ValueError(f"expected the cascade to start at one of {len(levels)} levels, got start={start}")
    paddings = [None] * len(levels) if paddings is None else list(paddings)
    dense, (start_logits,) = answers_and_queries(head, query_head, levels[start:], paddings[start:], [0], start)
    answers = list(dense)
    query_logits = _visible(start_logits, paddings[start])
    computed: list[ComputedLevel] = []
    for level in reversed(range(start)):
        padding = paddings[level]
        valid = None if padding is None else ~padding
        keys = cascade.keys(query_logits, _shape(levels[level]), valid)
        scores = query_logits.sigmoid()[keys.image, keys.row // 2, keys.column // 2]
        # Nothing reads the finest level's queries.
        branches = head.branches() + (query_head.branches() if level else ())
        outputs, active = method(levels[level], branches, keys, cascade.context, valid)
        computed.insert(0, ComputedLevel(level, keys, active, scores))
        answers.insert(0, head.answers(outputs[: len(outputs) - bool(level)], keys, level))
        query_logits = on_map(keys, outputs[-1][:, 0]) if level else query_logits
    return CascadeAnswers(tuple(answers), ((start, start_logits),), ComputedCells(tuple(computed)))


def _shape(level: Float[Tensor, "B C H W"]) -> tuple[int, int]:
    return level.shape[2], level.shape[3]


def _visible(query_logits: Float[Tensor, "B H W"], padding: Bool[Tensor, "B H W"] | None) -> Float[Tensor, "B H W"]:
    return query_logits if padding is None else query_logits.masked_fill(padding, float("-inf"))
