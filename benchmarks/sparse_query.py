"""What computing heads at chosen cells saves: class, box and query heads on P2 and P3 against dense, ratios of one run.

An 800 x 1333 image (padded to 1344 columns: P2 200 x 336, P3 100 x 168 cells), 256 channels, 80 classes, 9 anchors;
class and box head on both levels, query head on P3, on both sides. Queries are square blobs, as objects give them;
their keys answer and the share counts keys and context. Finding the cells is not timed, making the table of neighbors
is. The numbers of both sides are compared before anything is timed.

    python benchmarks/sparse_query.py [--classes 80] [--rounds 3] [--shares 0.5 1 2 5 10 100] [--blob 3] [--quick]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from measuring import Recording, parser, recording
from torch import Tensor

from smidgen.decoder.dense_head import DenseHead, QueryHead
from smidgen.nn.sparse_convolution import masked_dense, on_cells
from smidgen.structures import Cells
from smidgen.tokens.cascade_sparse_query import children, with_context

SHAPES = ((200, 336), (100, 168))
QUICK_SHAPES = ((50, 84), (25, 42))
WIDTH, ANCHORS = 256, 9


@dataclass(frozen=True)
class Work:
    """One level: its features, the cells that answer, and those that are computed."""

    features: Tensor
    keys: Cells
    active: Cells


@torch.inference_mode()
def main() -> None:
    options = _options()
    with recording(__file__, options) as record:
        shapes = QUICK_SHAPES if options.quick else SHAPES
        head, query_head = DenseHead(WIDTH, options.classes, ANCHORS), QueryHead(WIDTH)
        levels = [torch.randn(1, WIDTH, *shape) for shape in shapes]
        works = {
            f"{share:g} %": [_work(level, share / 100, options.blob) for level in levels] for share in options.shares
        }
        _check(head, query_head, min(works.values(), key=_num_active))
        calls = {share: partial(_at_cells, head, query_head, work) for share, work in works.items()}
        calls = {"dense": partial(_dense, head, query_head, levels), **calls}
        record.measure(f"heads on P2 and P3, {shapes} cells, {options.classes} classes", calls, against="dense")
        _count(record, works, shapes)


def _work(features: Tensor, share: float, blob: int) -> Work:
    """Blobs of queries on the level above, added until keys and context reach the share."""
    shape = (features.shape[2], features.shape[3])
    if share >= 1:
        everything = Cells.all_of(1, shape)
        return Work(features, everything, everything)
    chosen = torch.zeros(1, shape[0] // 2, shape[1] // 2, dtype=torch.bool)
    active = Cells.where(torch.zeros(1, *shape, dtype=torch.bool))
    while len(active) < share * shape[0] * shape[1]:
        row, column = (int(torch.randint(side - blob + 1, ())) for side in chosen.shape[1:])
        chosen[0, row : row + blob, column : column + blob] = True
        keys = children(Cells.where(chosen), shape)
        active = with_context(keys, 2)
    return Work(features, keys, active)


def _num_active(works: Sequence[Work]) -> int:
    return sum(len(work.active) for work in works)


def _at_cells(head: DenseHead, query_head: QueryHead, works: Sequence[Work]) -> object:
    return [_answers(head, query_head, level, work) for level, work in enumerate(works)]


def _answers(head: DenseHead, query_head: QueryHead, level: int, work: Work) -> Sequence[Tensor]:
    # Nothing reads queries of the finest level.
    branches = head.branches() + (query_head.branches() if level else ())
    return on_cells(work.features, branches, work.active, work.keys)


def _dense(head: DenseHead, query_head: QueryHead, levels: Sequence[Tensor]) -> object:
    return head.on_levels(levels), query_head.on_levels(levels[1:])


def _check(head: DenseHead, query_head: QueryHead, works: Sequence[Work]) -> None:
    """The cheapest of the levels that will be timed, against dense convolutions with a mask."""
    work, branches = works[-1], head.branches() + query_head.branches()
    found = on_cells(work.features, branches, work.active, work.keys)
    expected = masked_dense(work.features, branches, work.active, work.keys)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def _count(record: Recording, works: dict[str, list[Work]], shapes: Sequence[tuple[int, int]]) -> None:
    """What share of the cells is computed, and of these how many are keys."""
    every = sum(rows * columns for rows, columns in shapes)
    for share, levels in works.items():
        cells, keys = _num_active(levels), sum(len(work.keys) for work in levels)
        record.count(f"asked for {share}", computed_share=cells / every, keys_among_them=keys / cells)


def _options() -> argparse.Namespace:
    options = parser(__doc__, rounds=3)
    options.add_argument("--classes", type=int, default=80)
    options.add_argument("--shares", type=float, nargs="+", default=[0.5, 1, 2, 5, 10, 100], help="per cent")
    options.add_argument("--blob", type=int, default=3, help="side of a group of queries")
    return options.parse_args()


if __name__ == "__main__":
    main()
