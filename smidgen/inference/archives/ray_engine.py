"""Shards shared out by Ray Data, on this machine or on a cluster: actors hold the model, and dead ones are replaced.

https://docs.ray.io/en/latest/data/batch_inference.html. A row is the name of a shard's files; what an actor answers is
what became of it. A shard that was in work when an actor died is given to another, as Ray Data does by itself.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from smidgen.inference.archives.manifest import Shard
from smidgen.inference.archives.parquet_shards import Outcome
from smidgen.inference.archives.shard_detector import ShardDetector, Work

Row = dict[str, Any]

STARTS = 3
"""Of Ray on this machine, before it is given up."""


def run_on_ray(work: Work, shards: Iterable[Shard], workers: int, address: str | None = None) -> Iterator[Outcome]:
    """What became of each shard, as it is finished. address: of a cluster ("auto" = the one here); None = this machine.

    Every worker takes one core (or `work.threads`), and one GPU where the device is one. Raises ValueError where Ray is
    not installed or there is no such cluster.
    """
    ray = require_ray()
    _quieten(ray)
    with _cluster(ray, workers * (work.threads or 1), address):
        rows = [{"shard": shard.index, "first_id": shard.first_id, "files": list(shard.files)} for shard in shards]
        answers = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            RayShardDetector,
            fn_constructor_args=(ray.put(work),),
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=work.threads or 1,
            num_gpus=1 if work.device.startswith("cuda") else 0,
        )
        for row in answers.iter_rows():
            yield Outcome(**row)


class RayShardDetector:
    """`ShardDetector` as an actor of Ray Data: rows in, rows out."""

    def __init__(self, work: Any) -> None:
        import ray

        self._detector = ShardDetector(ray.get(work))

    def __call__(self, row: Row) -> Row:
        """Finish the shard of a row."""
        return asdict(self._detector(Shard(int(row["shard"]), int(row["first_id"]), tuple(map(str, row["files"])))))


def require_ray() -> Any:
    """Ray with its data library. Raises ValueError that says how to get it."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ValueError(
            "--engine ray needs an extra: pip install 'smidgen[ray]'; --engine local does without"
        ) from error
    return ray


def _quieten(ray: Any) -> None:
    """Our own progress is enough: Ray Data would say its own every ten seconds."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)


@contextlib.contextmanager
def _cluster(ray: Any, cores: int, address: str | None) -> Iterator[None]:
    """Ray, begun and ended here unless the caller has begun it."""
    if ray.is_initialized():
        yield
        return
    quiet = {"logging_level": logging.WARNING, "log_to_driver": False}
    if address is None:
        _begin(ray, cores, quiet)
    else:
        _join(ray, address, quiet)
    try:
        yield
    finally:
        ray.shutdown()


def _begin(ray: Any, cores: int, quiet: Row) -> None:
    """Ray on this machine. It gives its own processes 30 seconds to start, which a busy machine may need twice."""
    for attempts_left in reversed(range(STARTS)):
        try:
            ray.init("local", num_cpus=cores, include_dashboard=False, **quiet)
            return
        except Exception as error:  # Ray raises no narrower one
            ray.shutdown()
            if not attempts_left or "timed out during startup" not in str(error):
                raise


def _join(ray: Any, address: str, quiet: Row) -> None:
    try:
        ray.init(address, **quiet)
    except ConnectionError as error:
        raise ValueError(
            f"expected a Ray cluster at {address!r} (`ray start --head` begins one): {error}; change --ray-address"
        ) from error
