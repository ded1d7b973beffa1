"""Shards one after another in this process, or shared out to processes of this machine."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.context import BaseContext
from threading import Thread

from smidgen.inference.archives.manifest import Shard
from smidgen.inference.archives.parquet_shards import Outcome
from smidgen.inference.archives.shard_detector import ShardDetector, Work


def run_locally(work: Work, shards: Iterable[Shard], workers: int) -> Iterator[Outcome]:
    """What became of each shard, when it is finished. One worker is this process; of several, any may be killed."""
    if workers == 1:
        yield from map(ShardDetector(work), shards)
        return
    packed = _packed(work)
    remaining = {shard.index: shard for shard in shards}
    while remaining:
        for answer in _until_one_dies(packed, list(remaining.values()), workers):
            del remaining[answer.shard]
            yield answer
        remaining = _suspects_last(remaining, workers)


def _until_one_dies(packed: bytes, shards: list[Shard], workers: int) -> Iterator[Outcome]:
    """Answers until a process is killed, which ends the others of its pool, too."""
    with ProcessPoolExecutor(workers, _context(), _start, (packed,)) as pool:
        futures = [pool.submit(_detect, shard) for shard in shards]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            return
        finally:
            pool.shutdown(cancel_futures=True)


def _context() -> BaseContext:
    """Workers are forked from a process that has imported all they need, so that a dead one is soon replaced.

    Forked from this one they would hang where torch's threads are running already.
    """
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _suspects_last(remaining: dict[int, Shard], workers: int) -> dict[int, Shard]:
    """The shards in work when a process died go to the end, so that one that kills cannot hold up the others."""
    order = list(remaining)
    return {index: remaining[index] for index in (*order[workers:], *order[:workers])}


def _packed(work: Work) -> bytes:
    """The work as bytes: sharing tensors would need shared memory, of which containers have little."""
    try:
        return pickle.dumps(work)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"expected a model that can be sent to other processes, got one that cannot be pickled ({error}); "
            "use --workers 1, or leave out torch.compile"
        ) from error


_detector: ShardDetector | None = None  # of this process, if it is a worker


def _start(packed: bytes) -> None:
    global _detector
    Thread(target=_end_with_parent, daemon=True).start()
    work: Work = pickle.loads(packed)  # our own bytes, from the process that started this one
    _detector = ShardDetector(work)


def _end_with_parent() -> None:
    """Who is killed cannot end its workers, and they would wait for shards forever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _detect(shard: Shard) -> Outcome:
    assert _detector is not None
    return _detector(shard)
