"""The detections of an observed batch as the model itself would give them, without running it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smidgen.analysis.observation import Observation
from smidgen.decoder.readout import TopScoring
from smidgen.evaluation.detect_and_score import as_results
from smidgen.structures import Classes, Detections


def observed_detections(observation: Observation, classes: Classes) -> list[Detections]:
    """For every image what `model.detect` gives, in pixels of the image on disk."""
    sizes = [target.original_hw for target in observation.targets]
    if observation.dense is None:
        readout: Any = observation.readout or TopScoring()
        found: list[Detections] = readout(observation.output, sizes, classes)
        return found
    # The readout has spoken already: each row of `output` is a detection, which scores 0 for all classes but its own.
    rows = TopScoring(None)(observation.output, sizes, classes)
    return [detections[detections.scores > 0] for detections in rows]


def observed_results(observation: Observation, classes: Classes, class_ids: Mapping[int, int]) -> list[dict[str, Any]]:
    """The same as COCO results. class_ids: the model's class index -> id in the data set (`ids_in_dataset`)."""
    return as_results(observed_detections(observation, classes), observation.targets, class_ids)
