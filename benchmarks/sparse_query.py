"""What computing heads at chosen cells saves: class, box and query heads on P2 and P3 against dense, ratios of one run.

An 800 x 1333 image (padded to 1344 columns: P2 200 x 336, P3 100 x 168 cells), 256 channels, 80 classes, 9 anchors;
class and box head on both levels, query head on P3, on both sides. Queries are square blobs, as objects give them;
their keys answer and the share counts keys and context. Finding the cells is not timed, making the table of neighbors
is. Time is that of the one thread that computes, in turns, so that a busy machine falls on all. The numbers of both
sides are compared before anything is timed.

Seen on one thread of a CPU with AVX-512, median of 2 rounds: dense 12.8 s; 105x faster at 0.6 % computed cells, 68x at
1.1 %, 41x at 2.2 %, 18x at 5.1 %, 9.5x at 10 % (over a third of them keys); 0.99x the dense time at 100 %.

    python benchmarks/sparse_query.py [--classes 80] [--rounds 3] [--shares 0.5 1 2 5 10 100] [--blob 3] [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
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
    torch.manual_seed(0)
    torch.set_num_threads(1)
    shapes = QUICK_SHAPES if options.quick else SHAPES
    head, query_head = DenseHead(WIDTH, options.classes, ANCHORS), QueryHead(WIDTH)
    levels = [torch.randn(1, WIDTH, *shape) for shape in shapes]
    works = {share: [_work(level, share / 100, options.blob) for level in levels] for share in options.shares}
    _check(head, query_head, works[min(works)])

    def sparse(share: float) -> Callable[[], object]:
        return lambda: [_answers(head, query_head, index, work) for index, work in enumerate(works[share])]

    calls = {share: sparse(share) for share in options.shares}
    calls[None] = lambda: _dense(head, query_head, levels)
    times = {name: [] for name in calls}
    for _ in range(options.rounds):
        for name, call in calls.items():
            times[name].append(_seconds(call))
    _report({name: statistics.median(taken) for name, taken in times.items()}, works, shapes, options)


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


def _report(
    times: dict[float | None, float],
    works: dict[float, list[Work]],
    shapes: Sequence[tuple[int, int]],
    options: argparse.Namespace,
) -> None:
    dense = times.pop(None)
    print(f"P2 and P3 of {shapes} cells, {options.classes} classes, 1 thread, fp32, median of {options.rounds}")
    print(f"dense: {dense * 1e3:.0f} ms")
    for share, taken in times.items():
        cells = sum(len(work.active) for work in works[share])
        keys = sum(len(work.keys) for work in works[share])
        actual = 100 * cells / sum(rows * columns for rows, columns in shapes)
        ratio = f"{dense / taken:.1f}x faster" if taken < dense else f"{taken / dense:.2f}x the dense time"
        print(f"{actual:5.1f} % computed ({100 * keys / cells:.0f} % of them keys): {taken * 1e3:.1f} ms, {ratio}")


def _seconds(call: Callable[[], object]) -> float:
    start = time.thread_time()
    call()
    return time.thread_time() - start


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 1, 2, 5, 10, 100], help="per cent")
    parser.add_argument("--blob", type=int, default=3, help="side of a group of queries")
    parser.add_argument("--quick", action="store_true", help="one round, a sixteenth of the cells")
    options = parser.parse_args()
    options.rounds = 1 if options.quick else options.rounds
    return options


if __name__ == "__main__":
    main()
