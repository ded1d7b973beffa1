"""Figure 4 of QueryDet, measured: accuracy, computed cells and time by the cascade's threshold, and by a budget.

    python -m smidgen.recipes.cascade_tradeoff RUN --data DATA --out DIR
        [--thresholds 0.05 0.1 0.15 ...] [--budgets 0.02 0.05 400 ...] [--recall 0.99] [--protocol coco|aitod]

Writes cascade_tradeoff.json and cascade_tradeoff.png. Each image is taken alone and by every setting in turn, the dense
detector among them. A budget is the number of keys of an image at most (from 4 on), or their share of a level's cells
(below 1). --recall adds the threshold that keeps this share of the small objects of the same images.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from smidgen.analysis.cascade_threshold import threshold_for_recall
from smidgen.analysis.cascade_tradeoff import THRESHOLDS, Tradeoff, measure_tradeoff, tradeoff_picture
from smidgen.checkpoints import load
from smidgen.checkpoints.atomic_write import write_atomically
from smidgen.data import DetectionDataset, open_dataset


def budget(text: str) -> int | float:
    """A number of keys, or a share of the cells: whole numbers from 1 on are numbers of keys. ValueError for words."""
    value = float(text)
    return int(value) if value >= 1 and value.is_integer() else value


def measured(
    model: nn.Module,
    dataset: DetectionDataset,
    thresholds: Sequence[float] = THRESHOLDS,
    budgets: Sequence[int | float] = (),
    recall: float | None = None,
    protocol: str = "coco",
) -> Tradeoff:
    """The trade-off; recall: also at the threshold that keeps this share of the small objects."""
    if recall is not None:
        thresholds = sorted({*thresholds, threshold_for_recall(model, dataset, recall).threshold})
    return measure_tradeoff(model, dataset, thresholds=thresholds, budgets=budgets, protocol=protocol)


def written(tradeoff: Tradeoff, out: Path, metric: str = "AP") -> tuple[Path, Path]:
    """cascade_tradeoff.json and cascade_tradeoff.png in `out`."""
    picture = tradeoff_picture(tradeoff, metric)
    values, text = out / "cascade_tradeoff.json", json.dumps(tradeoff.to_json(), indent=1) + "\n"
    write_atomically(values, lambda partial: partial.write_text(text, encoding="utf-8"))
    return values, picture.save(out / "cascade_tradeoff.png")


def main() -> None:
    """Command line."""
    options, parser = _options()
    try:
        model, dataset = load(options.run, options.device), open_dataset(options.data, options.split)
        found = measured(model, dataset, options.thresholds, options.budgets, options.recall, options.protocol)
        values, picture = written(found, options.out, options.metric)
    except ValueError as error:
        parser.error(str(error))
    for point in found.points:
        value = point.metrics[options.metric]
        print(
            f"{point.kind:9} {point.name:>7}  {options.metric} {value:.3f}  {point.share:6.1%} of the sparse levels' "
            f"cells  {point.latency_ms:.1f} ms"
        )
    print(f"{values}, {picture}")


def _options() -> tuple[argparse.Namespace, argparse.ArgumentParser]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run or checkpoint folder of a QueryDet model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for the numbers and the picture")
    parser.add_argument("--split", default="val")
    parser.add_argument("--thresholds", type=float, nargs="*", default=list(THRESHOLDS))
    parser.add_argument("--budgets", type=budget, nargs="*", default=[])
    parser.add_argument("--recall", type=float)
    parser.add_argument("--protocol", default="coco", help="coco, aitod ...")
    parser.add_argument("--metric", default="AP", help="which figure of the protocol is drawn")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(), parser


if __name__ == "__main__":
    main()
