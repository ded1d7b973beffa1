"""The cascade's threshold chosen for a recall of the small objects, from a validation set; writes the model with it.

    python -m smidgen.recipes.cascade_threshold RUN --data DATA --out FOLDER [--recall 0.99] [--split val]
    smidgen evaluate FOLDER --data DATA --split test --protocol coco

The printed threshold also fits `smidgen train ... --set model.cascade.threshold=...`. cascade_threshold.json in the
folder holds the whole curve: by threshold the share of small objects that survive, and of cells computed.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from smidgen.analysis.cascade_threshold import ThresholdChoice, threshold_for_recall
from smidgen.checkpoints import load, save
from smidgen.checkpoints.atomic_write import write_atomically
from smidgen.data import DetectionDataset, open_dataset
from smidgen.models import create_model


def with_recall(
    model: nn.Module, dataset: DetectionDataset, recall: float = 0.99, batch_size: int = 2
) -> tuple[nn.Module, ThresholdChoice]:
    """The same weights with the threshold that keeps this share of the data set's small objects.

    Raises ValueError as `smidgen.analysis.cascade_threshold.threshold_for_recall` does.
    """
    choice = threshold_for_recall(model, dataset, recall, batch_size=batch_size)
    config: Any = model.config
    config = replace(config, cascade=replace(config.cascade, threshold=choice.threshold))
    changed: nn.Module = create_model(str(model.name), classes=model.classes, config=config)  # type: ignore[arg-type]
    changed.load_state_dict(model.state_dict())
    return changed.eval(), choice


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run or checkpoint folder of a QueryDet model")
    parser.add_argument("--data", type=Path, required=True, help="data set to choose on")
    parser.add_argument("--split", default="val", help="which images are looked at")
    parser.add_argument("--recall", type=float, default=0.99, help="share of the small objects to keep")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and cascade_threshold.json")
    options = parser.parse_args()
    try:
        model, choice = with_recall(load(options.run), open_dataset(options.data, options.split), options.recall)
    except ValueError as error:
        parser.error(str(error))
    save(model, options.out)
    values = choice.to_json()
    file, text = options.out / "cascade_threshold.json", json.dumps(values) + "\n"
    write_atomically(file, lambda partial: partial.write_text(text, encoding="utf-8"))
    print(json.dumps({name: value for name, value in values.items() if name != "curve"}))


if __name__ == "__main__":
    main()
