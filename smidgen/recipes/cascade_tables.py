"""QueryDet's tables 4, 5 and 6 for one trained model: where the cascade starts, how cells are computed, their context.

    python -m smidgen.recipes.cascade_tables RUN --data DATA [--tables 4 5 6] [--split val] [--protocol coco]

The weights are the same in all rows, so nothing is trained; what a table does not vary is as in the run. Printed are
the protocol's figures, the share of the sparse levels' cells that were computed (context included; "-" = all levels are
dense) and the seconds of the network for an image, without reading it and without suppression. Of the paper's starting
levels those appear whose query maps the run was taught (model.small_objects.levels).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from smidgen.checkpoints import load
from smidgen.data import DetectionDataset, open_dataset
from smidgen.decoder.cascaded_head import ComputedCells
from smidgen.models.dense_config import CascadeConfig
from smidgen.recipes.experiment import EvaluationConfig
from smidgen.recipes.running import judge
from smidgen.structures import DenseOutput, ImageBatch, evidence_of

TABLES = (4, 5, 6)
_CONTEXTS = range(6)


@dataclass(frozen=True, slots=True)
class TableRow:
    """A setting and what it gave; share: of the sparse levels' cells, None where nothing is sparse."""

    name: str
    metrics: Mapping[str, float]
    share: float | None
    seconds: float


def settings_of(table: int, config: Any) -> dict[str, CascadeConfig | None]:
    """Name -> cascade of the rows of a table; None = all cells are computed. ValueError for systems without cascade."""
    if not hasattr(config, "cascade"):
        raise ValueError(f"expected a run of a QueryDet system, which has a cascade, got {type(config).__name__}")
    own = config.cascade or CascadeConfig()
    if table == 4:
        taught = takewhile(lambda level: level in config.small_objects.levels, range(1, config.num_levels))
        # Level 0 is P2.
        return {"dense": None} | {f"start P{start + 2}": replace(own, start=start) for start in reversed(list(taught))}
    if table == 5:
        return {"dense": None} | {method: replace(own, method=method) for method in ("cq", "ccq", "csq")}
    if table == 6:
        return {f"context {2 * c + 1}x{2 * c + 1}": replace(own, context=c) for c in _CONTEXTS}
    raise ValueError(f"expected a table out of {TABLES}, got {table}")


def measured_row(
    model: nn.Module,
    dataset: DetectionDataset,
    name: str,
    cascade: CascadeConfig | None,
    evaluation: EvaluationConfig,
    device: str | None = None,
) -> TableRow:
    """Judge the model with this cascade; its own is put back after."""
    with _cascade_of(model, cascade), _Meter(model) as meter:
        metrics = judge(model, dataset, evaluation, device=device).metrics
    share = meter.computed / meter.cells if meter.cells else None
    return TableRow(name, metrics, share, meter.seconds / max(meter.images, 1))


@contextmanager
def _cascade_of(model: Any, cascade: CascadeConfig | None) -> Iterator[None]:
    own = model.querying
    model.querying = replace(own, cascade=None) if cascade is None else replace(own, **cascade.built())
    try:
        yield
    finally:
        model.querying = own


class _Meter:
    """Time and computed cells of all forward passes while it is open."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.images = self.computed = self.cells = 0
        self.seconds = self._start = 0.0

    def __enter__(self) -> _Meter:
        self._hooks = (
            self.model.register_forward_pre_hook(self._before),
            self.model.register_forward_hook(self._after),
        )
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _before(self, module: nn.Module, inputs: tuple[ImageBatch, ...]) -> None:
        self._start = _now()

    def _after(self, module: nn.Module, inputs: tuple[ImageBatch, ...], output: DenseOutput) -> None:
        self.seconds += _now() - self._start
        self.images += len(output.sizes_hw)
        found = evidence_of(output.evidence, ComputedCells)
        for level in () if found is None else found.levels:
            self.computed += len(level.active)
            self.cells += level.active.batch * level.active.shape[0] * level.active.shape[1]


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def main(arguments: list[str] | None = None) -> None:
    """Command line; a table of text, or with --json one object."""
    options = _options(arguments)
    model, dataset = load(options.run), open_dataset(options.data, options.split)
    evaluation = EvaluationConfig(protocol=options.protocol, batch_size=options.batch_size)
    found: dict[int, list[TableRow]] = {}
    for table in options.tables:
        found[table] = []
        for name, cascade in settings_of(table, model.config).items():
            found[table].append(measured_row(model, dataset, name, cascade, evaluation, options.device))
            print(f"table {table}: {_in_words(found[table][-1])}", file=sys.stderr if options.json else sys.stdout)
    if options.json:
        print(json.dumps({table: [asdict(row) for row in rows] for table, rows in found.items()}))


def _in_words(row: TableRow) -> str:
    figures = " ".join(f"{name} {100 * value:.2f}" for name, value in row.metrics.items() if name.startswith("AP"))
    share = "-" if row.share is None else f"{row.share:.2%}"
    return f"{row.name}: {figures}; computed {share}; {row.seconds:.3f} s"


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run or checkpoint folder of a QueryDet system")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tables", type=int, nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--split", default="val")
    parser.add_argument("--protocol", default="coco")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--device", help="cpu, cuda ...")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
