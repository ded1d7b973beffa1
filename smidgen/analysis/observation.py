"""What a detector did with one batch: its output, and the tokens and places it went through, which the output leaves
out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from smidgen.analysis.dense_observation import DenseSight, as_detector_output, dense_sight
from smidgen.analysis.trained_matching import trained_matching, trained_quality
from smidgen.assignment import HungarianAssignment, QualityOneToMany
from smidgen.data import DetectionDataset
from smidgen.evaluation.detect_and_score import ids_in_dataset
from smidgen.evaluation.model_state import device_of
from smidgen.losses.set_loss import Assignment
from smidgen.structures import DenseOutput, DetectorOutput, ImageBatch, Matches, Places, Target, Tokens

LISTENED_STAGES = ("neck", "flatten", "selection")


@dataclass(frozen=True, slots=True)
class Observation:
    """One batch with what became of it.

    images: uint8 pixels. targets: the truth, in the frame of `images` and with the model's class indices. tokens: how
    the pyramid was flattened (None: the model has no `flatten` stage). places: where the queries started (None: no
    `selection` stage). assignment: decides which query answers for which object. quality: decides on several queries
    for each object on the earlier layers (None: those are supervised one to one). dense: of a dense detector, whose
    `output` then holds its detections (None: the model is of the DETR family). readout: the model's part that makes
    detections of an output (None: the model has no such stage).
    """

    images: ImageBatch
    targets: tuple[Target, ...]
    output: DetectorOutput
    tokens: Tokens | None = None
    places: Places | None = None
    assignment: Assignment = field(default_factory=HungarianAssignment)
    quality: QualityOneToMany | None = None
    dense: DenseSight | None = None
    readout: Any = None

    @property
    def matches(self) -> Matches:
        """Which query of the last decoder layer answers for which object."""
        return self.assignment(self.output.final, self.targets)

    def __len__(self) -> int:
        return len(self.images)


def observe(model: nn.Module, images: ImageBatch, targets: Sequence[Target]) -> Observation:
    """Run the model as it stands (mode, gradient) on images with uint8 pixels and keep what the pictures need.

    Raises ValueError for normalized pixels, and for a model that returns neither a DetectorOutput nor a DenseOutput.
    """
    if images.pixels.is_floating_point():
        raise ValueError("expected images with uint8 pixels as the loaders give them, got normalized pixels")
    device = device_of(model)
    with _listening(model) as heard:
        output = model(images.to(device))
    moved = tuple(target.to(device) for target in targets)
    readout = getattr(model, "readout", None)
    if isinstance(output, DenseOutput):
        dense = dense_sight(model, output, heard["neck"])
        return Observation(images, moved, as_detector_output(model, output), dense=dense, readout=readout)
    if not isinstance(output, DetectorOutput):
        raise ValueError(
            f"expected a model of the DETR family or a dense detector to explain, got one that returns "
            f"{type(output).__name__}"
        )
    return Observation(
        images,
        moved,
        output,
        heard.get("flatten"),
        heard.get("selection"),
        assignment=trained_matching(model),
        quality=trained_quality(model),
        readout=readout,
    )


def with_model_labels(targets: Sequence[Target], model: nn.Module, dataset: DetectionDataset) -> tuple[Target, ...]:
    """The targets with the model's class indices; objects of classes that the model lacks are left out.

    Raises ValueError where model and data set have no class in common.
    """
    ids = ids_in_dataset(model.classes, dataset.classes)  # type: ignore[arg-type]
    model_index = {identity: index for index, identity in ids.items()}
    table = torch.tensor([model_index.get(identity, -1) for identity in dataset.classes.ids])
    return tuple(_relabeled(target, table) for target in targets)


def _relabeled(target: Target, table: torch.Tensor) -> Target:
    labels = table.to(target.labels.device)[target.labels]
    known = labels >= 0
    return replace(target, boxes_xyxy=target.boxes_xyxy[known], labels=labels[known])


@contextmanager
def _listening(model: nn.Module) -> Iterator[dict[str, Any]]:
    """What the listened stages return inside the block."""
    heard: dict[str, Any] = {}
    hooks = []
    for name in LISTENED_STAGES:
        stage = getattr(model, name, None)
        if isinstance(stage, nn.Module):
            hooks.append(stage.register_forward_hook(lambda _, __, value, name=name: heard.__setitem__(name, value)))
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()
