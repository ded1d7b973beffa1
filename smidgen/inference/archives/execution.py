"""How an archive is worked on, which changes nothing of what it holds in the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Engine = Literal["local", "ray"]


@dataclass(frozen=True, slots=True)
class Share:
    """One of `of` starts that share an archive, counted from 0: processes of torchrun, or jobs of a scheduler."""

    index: int = 0
    of: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.of:
            raise ValueError(f"expected a share from 0 to {self.of - 1} of {self.of}, got {self.index}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How an archive is worked on; nothing of it is a reason to refuse to go on.

    workers: processes with a copy of the model each. batch_size: images, or tiles, per batch. device: of each worker.
    threads: of torch in each worker. ray_address: of a cluster; None = this machine. share: of the shards, for this
    start.
    """

    engine: Engine = "local"
    workers: int = 1
    batch_size: int = 1
    device: str = "cpu"
    threads: int | None = None
    ray_address: str | None = None
    share: Share = field(default_factory=Share)

    def __post_init__(self) -> None:
        if self.engine not in ("local", "ray"):
            raise ValueError(f"expected the engine local or ray, got {self.engine!r}; change --engine")
        if self.workers < 1 or self.batch_size < 1:
            raise ValueError(
                f"expected at least 1 worker and 1 image per batch, got --workers {self.workers}, "
                f"--batch-size {self.batch_size}"
            )
