"""One model under several settings of its cascade: what it then finds, computes and takes, image by image in turns.

The weights are the same under all settings, so that differences are the settings' own; every setting sees every image
in turn, so that a machine that is busy for a while is busy for all of them. As in QueryDet's timings (Yang et al., CVPR
2022, section 4.1) an image is taken alone, in the precision of the weights, from pixels on the device to detections.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from smidgen.data import DetectionDataset, evaluation_loader
from smidgen.decoder.cascaded_head import ComputedCells, QueryMethod
from smidgen.evaluation.detect_and_score import as_results, ids_in_dataset
from smidgen.evaluation.model_state import device_of, evaluating
from smidgen.evaluation.protocol import Protocol
from smidgen.evaluation.scoring import score
from smidgen.structures import DenseOutput, Detections, ImageBatch, evidence_of
from smidgen.tokens.cascade_sparse_query import CascadeSparseQuery


@dataclass(frozen=True, slots=True)
class Setting:
    """cascade: None = all cells are computed. method: of computing the chosen cells; None = the model's."""

    cascade: CascadeSparseQuery | None
    method: QueryMethod | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """share: computed cells of all cells of the sparse levels, context included; 1 where all are computed. latency_ms:
    median over images. metrics: of the protocol. images: how many were looked at.
    """

    share: float
    latency_ms: float
    metrics: Mapping[str, float]
    images: int


@torch.inference_mode()
def measure_settings(
    model: nn.Module,
    dataset: DetectionDataset,
    settings: Iterable[Setting],
    protocol: Protocol,
    progress: Callable[[int, int], None] | None = None,
) -> dict[Setting, Measured]:
    """Detect on every image with every setting, equal ones once, and score what was found.

    progress: called with the number of images done and of all. The model keeps its own setting. Raises ValueError where
    model and data set have no class in common, and where no image can be read.
    """
    class_ids = ids_in_dataset(model.classes, dataset.classes)  # type: ignore[arg-type]
    runs = [_Run(model, setting) for setting in dict.fromkeys(settings)]
    preprocessing: Any = model.config.preprocessing  # type: ignore[union-attr]
    done = 0
    with evaluating(model):
        for images, targets in evaluation_loader(dataset, preprocessing=preprocessing, batch_size=1):
            batch, original_hw = images.to(device_of(model)), [target.original_hw for target in targets]
            if not done:
                _warm_up(runs, batch, original_hw)
            for run in _in_turn(runs, done):
                run.predictions += as_results(run(batch, original_hw), targets, class_ids)
            done += len(images)
            if progress is not None:
                progress(done, len(dataset))
    if not done:
        raise ValueError(f"expected at least one readable image to measure on, got none in {dataset.path}")
    truth = dataset.coco_ground_truth()
    return {run.setting: run.measured(score(truth, run.predictions, protocol).metrics) for run in runs}


def _warm_up(runs: Sequence[_Run], images: ImageBatch, original_hw: Sequence[tuple[int, int]]) -> None:
    for run in runs:
        run(images, original_hw)
        run.forget()


def _in_turn(runs: Sequence[_Run], first: int) -> list[_Run]:
    """Another one begins with each image, so that none always finds the caches of the same other one."""
    start = first % len(runs)
    return [*runs[start:], *runs[:start]]


class _Run:
    """A setting while it is measured."""

    def __init__(self, model: nn.Module, setting: Setting) -> None:
        self.model: Any = model
        self.setting = setting
        self.predictions: list[dict[str, Any]] = []
        self.forget()

    def forget(self) -> None:
        """Begin again to measure."""
        self.seconds: list[float] = []
        self.computed = self.cells = 0

    def __call__(self, images: ImageBatch, original_hw: Sequence[tuple[int, int]]) -> list[Detections]:
        own = self.model.querying
        self.model.querying = replace(own, cascade=self.setting.cascade, method=self.setting.method or own.method)
        try:
            start = _now(images)
            output: DenseOutput = self.model(images)
            found: list[Detections] = self.model.readout(output, original_hw, self.model.classes)
            self.seconds.append(_now(images) - start)
        finally:
            self.model.querying = own
        self._count(output)
        return found

    def measured(self, metrics: Mapping[str, float]) -> Measured:
        """What was measured."""
        share = self.computed / self.cells if self.cells else 1.0
        return Measured(share, statistics.median(self.seconds) * 1000, dict(metrics), len(self.seconds))

    def _count(self, output: DenseOutput) -> None:
        found = evidence_of(output.evidence, ComputedCells)
        for level in () if found is None else found.levels:
            self.computed += len(level.active)
            self.cells += level.active.batch * level.active.shape[0] * level.active.shape[1]


def _now(images: ImageBatch) -> float:
    if images.pixels.is_cuda:
        torch.cuda.synchronize(images.pixels.device)
    return time.perf_counter()
