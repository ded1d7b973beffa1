"""QueryDet's tables 4, 5 and 6 for one trained model: where the cascade starts, how cells are computed, their context.

    python -m smidgen.recipes.cascade_tables RUN --data DATA [--tables 4 5 6] [--split val] [--protocol coco]

The weights are the same in all rows, so nothing is trained; what a table does not vary is as in the run. Each image is
taken alone and by every row in turn. Printed are the protocol's figures, the share of the sparse levels' cells that
were computed (context included) and the median milliseconds of an image, from pixels to detections. Of the paper's
starting levels those appear whose query maps the run was taught (model.small_objects.levels).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from torch import nn

from smidgen.analysis.cascade_measuring import Measured, Setting, measure_settings
from smidgen.checkpoints import load
from smidgen.data import DetectionDataset, open_dataset
from smidgen.evaluation import load_protocol
from smidgen.models.dense_config import CascadeConfig

TABLES = (4, 5, 6)
_CONTEXTS = range(6)


@dataclass(frozen=True, slots=True)
class TableRow:
    """A setting and what it gave; share: of the sparse levels' cells."""

    name: str
    metrics: Mapping[str, float]
    share: float
    latency_ms: float

    @staticmethod
    def of(name: str, found: Measured) -> TableRow:
        """A row from what was measured."""
        return TableRow(name, found.metrics, found.share, found.latency_ms)


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


def measured_tables(
    model: nn.Module, dataset: DetectionDataset, tables: Sequence[int] = TABLES, protocol: str = "coco"
) -> dict[int, list[TableRow]]:
    """All rows of the tables; what stands in several is measured once."""
    wanted = {
        (table, name): _setting(cascade)
        for table in tables
        for name, cascade in settings_of(table, model.config).items()
    }
    found = measure_settings(model, dataset, wanted.values(), load_protocol(protocol))
    return {
        number: [TableRow.of(name, found[setting]) for (table, name), setting in wanted.items() if table == number]
        for number in tables
    }


def _setting(cascade: CascadeConfig | None) -> Setting:
    return Setting(None) if cascade is None else Setting(**cascade.built())


def main(arguments: list[str] | None = None) -> None:
    """Command line; a table of text, or with --json one object."""
    options, parser = _options(arguments)
    try:
        model, dataset = load(options.run, options.device), open_dataset(options.data, options.split)
        found = measured_tables(model, dataset, options.tables, options.protocol)
    except ValueError as error:
        parser.error(str(error))
    for table, rows in found.items():
        for row in rows:
            print(f"table {table}: {_in_words(row)}", file=sys.stderr if options.json else sys.stdout)
    if options.json:
        print(json.dumps({table: [asdict(row) for row in rows] for table, rows in found.items()}))


def _in_words(row: TableRow) -> str:
    figures = " ".join(f"{name} {100 * value:.2f}" for name, value in row.metrics.items() if name.startswith("AP"))
    return f"{row.name}: {figures}; computed {row.share:.2%}; {row.latency_ms:.1f} ms"


def _options(arguments: list[str] | None) -> tuple[argparse.Namespace, argparse.ArgumentParser]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run or checkpoint folder of a QueryDet system")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tables", type=int, nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--split", default="val")
    parser.add_argument("--protocol", default="coco")
    parser.add_argument("--device", default="cpu", help="cpu, cuda ...")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments), parser


if __name__ == "__main__":
    main()
