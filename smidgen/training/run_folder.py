"""The folder that a training fills: what was asked, what it ran on, what came out, and how to go on.

experiment.yaml  environment.json  metrics.jsonl  curves.png  log.txt  train_samples/  best/  last/
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from smidgen.checkpoints.atomic_write import failures_explained, recover_folder, write_atomically


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run, and the few ways of writing to it. Whole files are replaced atomically; lines are appended."""

    path: Path

    @property
    def best(self) -> Path:
        """Checkpoint with the best evaluation so far."""
        return self.path / "best"

    @property
    def last(self) -> Path:
        """Checkpoint of the latest save, with the training state beside it."""
        return self.path / "last"

    @property
    def metrics(self) -> Path:
        """One JSON object per line: steps (kind "train") and evaluations (kind "evaluation"), both counted from 1."""
        return self.path / "metrics.jsonl"

    @property
    def curves(self) -> Path:
        """Losses, learning rate and metrics over the steps, as a picture."""
        return self.path / "curves.png"

    @property
    def samples(self) -> Path:
        """Pictures of the first batches as the network saw them."""
        return self.path / "train_samples"

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Replace a JSON file of the run."""
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        write_atomically(self.path / name, lambda partial: partial.write_text(text, encoding="utf-8"))

    def write_yaml(self, name: str, value: Mapping[str, Any]) -> None:
        """Replace a YAML file of the run."""
        text = yaml.safe_dump(_plain(value), sort_keys=False, allow_unicode=True)
        write_atomically(self.path / name, lambda partial: partial.write_text(text, encoding="utf-8"))

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add one line to metrics.jsonl."""
        _append(self.metrics, json.dumps(line, ensure_ascii=False))

    def append_log(self, text: str) -> None:
        """Add dated text to log.txt."""
        _append(self.path / "log.txt", f"{datetime.now().isoformat(timespec='seconds')} {text}")

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; a line cut off by a crash is left out."""
        if not self.metrics.exists():
            return []
        return [line for text in self.metrics.read_text(encoding="utf-8").splitlines() if (line := _parsed(text))]

    def forget_after(self, step: int) -> None:
        """Drop the lines of metrics.jsonl that a resumed run will write again."""
        kept = [line for line in self.read_metrics() if line["step"] <= step]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept)
        write_atomically(self.metrics, lambda partial: partial.write_text(text, encoding="utf-8"))


def open_run(path: Path, resume: bool) -> RunFolder:
    """A new folder, or with `resume` one that is there.

    Errors: ValueError where a new run would mix with an old one, or where there is nothing to resume.
    """
    run = RunFolder(path)
    recover_folder(run.last)
    recover_folder(run.best)
    if resume and not path.is_dir():
        raise ValueError(f"expected a run to resume at {path}, got no such folder; change --out or leave out --resume")
    if not resume and (run.last.exists() or run.best.exists() or run.metrics.exists()):
        raise ValueError(f"there is a run in {path} already; continue it with --resume, or choose another --out")
    path.mkdir(parents=True, exist_ok=True)
    return run


def _append(path: Path, text: str) -> None:
    with failures_explained(path), path.open("a", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except json.JSONDecodeError:
        return None
    return line if isinstance(line, dict) else None


def _plain(value: Any) -> Any:
    """Mappings, lists and scalars only, as safe YAML has them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
