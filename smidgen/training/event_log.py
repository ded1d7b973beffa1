"""The numbers of metrics.jsonl for TensorBoard, where the extra is installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final


@final
class EventLog:
    """Writes every number of a line as a scalar; nested names are joined with "/"."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError(
                "training.tensorboard=true needs an extra: pip install 'smidgen[tensorboard]', or set it to false"
            ) from error
        self._writer: Any = SummaryWriter(str(folder))

    def record(self, values: Mapping[str, object], step: int) -> None:
        """Write the numbers of one line."""
        for name, value in _numbers(values):
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush what is not yet on the disk."""
        self._writer.close()


def _numbers(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)):
            yield prefix + name, float(value)
