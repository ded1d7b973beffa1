"""The cascade's threshold chosen for a recall of the small objects, from a validation set; writes the model with it.

    python -m smidgen.recipes.cascade_threshold RUN --data DATA --out FOLDER [--recall 0.99] [--split val]
    smidgen evaluate FOLDER --data DATA --split test --protocol coco

The printed threshold also fits `smidgen train ... --set model.cascade.threshold=...`; with
`--set model.cascade.threshold=recall:0.99` the training itself ends with the same choice, for its best model.
cascade_threshold.json beside the checkpoint holds the whole curve: by threshold the share of small objects that
survive, and of cells computed.
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
from smidgen.models.dense_config import PAPERS_THRESHOLD, wanted_recall


def with_recall(
    model: nn.Module, dataset: DetectionDataset, recall: float = 0.99, batch_size: int = 2
) -> tuple[nn.Module, ThresholdChoice]:
    """The same weights with the threshold that keeps this share of the data set's small objects.

    Raises ValueError as `smidgen.analysis.cascade_threshold.threshold_for_recall` does.
    """
    choice = threshold_for_recall(model, dataset, recall, batch_size=batch_size)
    config = with_threshold(model.config, choice.threshold)
    changed: nn.Module = create_model(str(model.name), classes=model.classes, config=config)  # type: ignore[arg-type]
    changed.load_state_dict(model.state_dict())
    return changed.eval(), choice


def opened_recall(config: Any) -> tuple[Any, float | None]:
    """The configuration as it can be trained, with the paper's threshold, and the recall that it asks for at the end
    (None, and the configuration as it is, where its threshold is a number or where it has no cascade).
    """
    cascade = getattr(config, "cascade", None)
    recall = wanted_recall(cascade)
    return (config, None) if recall is None else (with_threshold(config, PAPERS_THRESHOLD), recall)


def with_threshold(config: Any, threshold: float) -> Any:
    """The configuration with another threshold of its cascade."""
    return replace(config, cascade=replace(config.cascade, threshold=threshold))


def save_with_choice(model: nn.Module, choice: ThresholdChoice, folder: Path, **judged: Any) -> None:
    """Write the model and cascade_threshold.json; judged: protocol and metrics, as of `smidgen.checkpoints.save`."""
    save(model, folder, **judged)
    text = json.dumps(choice.to_json()) + "\n"
    write_atomically(folder / "cascade_threshold.json", lambda partial: partial.write_text(text, encoding="utf-8"))


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
    save_with_choice(model, choice, options.out)
    print(json.dumps({name: value for name, value in choice.to_json().items() if name != "curve"}))


if __name__ == "__main__":
    main()
