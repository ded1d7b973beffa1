"""What became of the files of a shard: detections or the reason why there are none, and what is to be told of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import nn

from smidgen.structures import Detections


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An image without an answer, and why."""

    reason: str


@dataclass(slots=True)
class Answers:
    """by_file: of every file of the shard. notes: limits that were met. tiles, looked_at: where a guide chose among
    tiles, of all files together.
    """

    by_file: dict[str, Detections | Unreadable] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    tiles: int = 0
    looked_at: int = 0


Detect = Callable[[nn.Module, Sequence[str]], Answers]
"""How the files of a shard are looked at, by a model that is on its device; it can be sent to other processes."""
