"""How many patterns does a PaQ-DETR model need? Fewer or more of them, chosen by what a trained model uses.

    python -m smidgen.recipes.pattern_count RUN --data DATA --out FOLDER [--number N]
    smidgen evaluate FOLDER --data DATA --split val --protocol coco
    smidgen train paq_dino_nano --recipe ... --init FOLDER --set model.patterns.number=N ...

PaQ-DETR's article sweeps the number of patterns for each data set (150 to 200 on COCO) and chooses by hand. Here a
trained model is run over its training images, and the weights of the queries that answer for an object are averaged:
the exponential of their entropy is how many equally used patterns would do as well. Where that is clearly fewer than
there are, the most used ones are kept; where nearly all are used, those of them used more than the average are split in
two, which changes no answer of the model and lets training part them. The written checkpoint is a complete model of the
new number; training goes on from it with --init.

Idle queries are left out, because every row of a random mixture spreads its weight, which says nothing about need.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from smidgen.analysis.observation import Observation, observe, with_model_labels
from smidgen.checkpoints import load, save
from smidgen.checkpoints.atomic_write import write_atomically
from smidgen.data import DetectionDataset, evaluation_loader, open_dataset
from smidgen.evaluation.model_state import evaluating
from smidgen.models import create_model
from smidgen.queries.pattern_content import PatternWeights
from smidgen.queries.pattern_usage import effective_patterns, keep_patterns, most_used, pattern_usage, split_patterns
from smidgen.structures import evidence_of

NEARLY_ALL = 0.9


@dataclass(frozen=True, kw_only=True)
class PatternCount:
    """patterns: there were. effective: by the weights of queries at work. chosen: there are now. queries: at work."""

    patterns: int
    effective: float
    chosen: int
    queries: int


def choose_patterns(
    model: nn.Module, dataset: DetectionDataset, number: int | None = None, batch_size: int = 2
) -> tuple[nn.Module, PatternCount]:
    """A model with as many patterns as are used, or with `number` of them.

    Raises ValueError where the model has no patterns, or where more than twice as many are asked for.
    """
    weights = list(working_weights(model, dataset, batch_size))
    usage = pattern_usage(weights)
    effective = effective_patterns(usage).item()
    above = (usage > usage.mean()).sum().item()
    chosen = advised(len(usage), effective, above) if number is None else number
    count = PatternCount(
        patterns=len(usage), effective=effective, chosen=chosen, queries=sum(len(rows[0]) for rows in weights)
    )
    return _with_number(model, usage, chosen), count


def advised(patterns: int, effective: float, above_average: float) -> int:
    """As many as are used, rounded up; or where nearly all are, as many more as are used above the average."""
    if effective < NEARLY_ALL * patterns:
        return math.ceil(effective)
    return patterns + int(above_average)


@torch.inference_mode()
def working_weights(
    model: nn.Module, dataset: DetectionDataset, batch_size: int = 2
) -> Iterator[Float[Tensor, "1 W m"]]:
    """Of each batch the rows of the queries that answer for an object on the last layer."""
    config: Any = model.config
    loader = evaluation_loader(dataset, preprocessing=config.preprocessing, batch_size=batch_size)
    with evaluating(model):
        for images, targets in loader:
            rows = _of_matched(observe(model, images, with_model_labels(targets, model, dataset)))
            if len(rows):
                yield rows[None]


def _of_matched(observation: Observation) -> Float[Tensor, "W m"]:
    mixing = evidence_of(observation.output.evidence, PatternWeights)
    if mixing is None:
        raise ValueError("expected a model that mixes patterns (paq_...), got one without; name another RUN")
    matches = observation.matches
    return mixing.weights[matches.image, matches.query]


def _with_number(model: nn.Module, usage: Float[Tensor, " m"], number: int) -> nn.Module:
    config: Any = model.config
    state: Mapping[str, Tensor] = model.state_dict()
    more = number - len(usage)
    if more > len(usage):
        raise ValueError(
            f"expected at most {2 * len(usage)} patterns, twice as many as there are, got {number}; lower --number"
        )
    if more > 0:
        state = split_patterns(state, most_used(usage, more), temperature=config.patterns.temperature)
    elif more < 0:
        state = keep_patterns(state, most_used(usage, number))
    config = replace(config, patterns=replace(config.patterns, number=number))
    changed: nn.Module = create_model(str(model.name), classes=model.classes, config=config)  # type: ignore[arg-type]
    changed.load_state_dict(state)
    return changed.eval()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run or checkpoint folder of a PaQ-DETR model")
    parser.add_argument("--data", type=Path, required=True, help="data set it was trained on")
    parser.add_argument("--split", default="train", help="which images are looked at")
    parser.add_argument("--number", type=int, help="this many patterns, in place of what is used")
    parser.add_argument("--out", type=Path, required=True, help="folder for the new checkpoint and pattern_count.json")
    options = parser.parse_args()
    try:
        model, count = choose_patterns(load(options.run), open_dataset(options.data, options.split), options.number)
    except ValueError as error:
        parser.error(str(error))
    save(model, options.out)
    text = json.dumps(asdict(count))
    file = options.out / "pattern_count.json"
    write_atomically(file, lambda partial: partial.write_text(text + "\n", encoding="utf-8"))
    print(text)


if __name__ == "__main__":
    main()
