"""What a worker does, whichever engine started it: take a shard, detect in its files, and put the tables in place."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from smidgen.inference.archives.answers import Detect
from smidgen.inference.archives.attempts import MOST_ATTEMPTS, attempt, deaths, forget
from smidgen.inference.archives.manifest import Shard
from smidgen.inference.archives.parquet_shards import Outcome, finished_outcome, write_shard
from smidgen.inference.archives.storage import Storage


@dataclass(frozen=True, slots=True)
class Work:
    """All a worker is told, once; it can be sent to another process or host.

    threads: of torch, in each worker; None leaves torch's own number.
    """

    model: nn.Module
    storage: Storage
    detect: Detect
    device: str = "cpu"
    threads: int | None = None


class ShardDetector:
    """Answers shards of files with what became of them; the rows go to the storage."""

    def __init__(self, work: Work) -> None:
        if work.threads is not None:
            torch.set_num_threads(work.threads)
        self._storage, self._detect = work.storage, work.detect
        self._model = work.model.to(work.device).eval()

    def __call__(self, shard: Shard) -> Outcome:
        """Finish a shard, unless it is finished already or kills whoever takes it. Raises OSError."""
        # A worker that died may have finished the shard without being able to say so.
        finished = finished_outcome(self._storage, shard)
        if finished:
            return finished
        if deaths(self._storage, shard.name) >= MOST_ATTEMPTS:
            return Outcome(shard.index, failure=_given_up(shard, self._storage))
        with attempt(self._storage, shard.name):
            answers = self._detect(self._model, shard.files)
            outcome = write_shard(self._storage, shard, [answers.by_file[file] for file in shard.files])
        forget(self._storage, shard.name)
        notes = "\n".join(answers.notes)
        return replace(outcome, notes=notes, tiles=answers.tiles, looked_at=answers.looked_at)


def _given_up(shard: Shard, storage: Storage) -> str:
    return (
        f"{MOST_ATTEMPTS} workers died over its {len(shard.files)} files, {shard.files[0]} to {shard.files[-1]}; "
        f"look for a file that ends the process or needs too much memory, delete {storage.shown('attempts')} and "
        "start again"
    )
