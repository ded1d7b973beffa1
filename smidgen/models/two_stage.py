"""The skeleton of two-stage detectors: cells propose regions, and each region is looked at again.

ImageBatch -> FeaturePyramid -> DenseOutput (anchors) -> Regions -> RegionAnswers -> Detections
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from jaxtyping import Float
from torch import Tensor, nn

from smidgen.models.dense import Backbone, Head, Neck, Querying, Readout, heads_on
from smidgen.structures import Classes, DenseOutput, Detections, FeaturePyramid, ImageBatch, Preprocessing, Target
from smidgen.structures.regions import RegionAnswers, Regions, RegionTruth


class Proposing(Protocol):
    """Answers of the first stage to regions."""

    def __call__(self, output: DenseOutput) -> Regions: ...


class Sampling(Protocol):
    """The regions that the second stage is taught on, and what they show."""

    def __call__(self, regions: Regions, targets: Sequence[Target]) -> tuple[Regions, RegionTruth]: ...


class SecondStage(Protocol):
    """What each region shows."""

    def __call__(self, pyramid: FeaturePyramid, regions: Regions, truth: RegionTruth | None) -> RegionAnswers: ...


class Criterion(Protocol):
    """Loss terms of one stage."""

    def __call__(
        self, output: DenseOutput, targets: Sequence[Target], progress: float
    ) -> dict[str, Float[Tensor, ""]]: ...


class TwoStageDetector(nn.Module):
    """A dense first stage and a second one on its regions. The second stage's answers are evidence in the output;
    querying, see_padding: as in `smidgen.models.dense.DenseDetector`.
    """

    name: str
    config: Any
    classes: Classes

    def __init__(
        self,
        *,
        preprocessing: Preprocessing,
        backbone: Backbone,
        neck: Neck,
        head: Head,
        proposals: Proposing,
        sampling: Sampling,
        region_head: SecondStage,
        readout: Readout,
        querying: Querying | None = None,
        see_padding: bool = False,
    ) -> None:
        super().__init__()
        self.preprocessing, self.backbone, self.neck = preprocessing, backbone, neck
        self.head, self.proposals, self.sampling = head, proposals, sampling
        self.region_head, self.readout = region_head, readout
        self.querying, self.query_head = querying, None if querying is None else querying.head
        self.see_padding = see_padding

    def forward(self, images: ImageBatch, targets: Sequence[Target] | None = None) -> DenseOutput:
        """What both stages say of the images; with `targets` (training) of regions sampled by what they show."""
        pyramid = self.neck(self.backbone(images.normalized(self.preprocessing)))
        return self.decode(pyramid, images.sizes, targets)

    def decode(
        self,
        pyramid: FeaturePyramid,
        sizes_hw: tuple[tuple[int, int], ...],
        targets: Sequence[Target] | None = None,
    ) -> DenseOutput:
        """From maps of one width on."""
        paddings = None if self.see_padding else pyramid.padding
        supervised = self.training or targets is not None
        output = heads_on(pyramid, sizes_hw, self.head, self.querying, paddings, supervised)
        regions, truth = self.proposals(output), None
        if targets is not None:
            regions, truth = self.sampling(regions, targets)
        return replace(output, evidence=(*output.evidence, self.region_head(pyramid, regions, truth)))

    def detect(self, images: ImageBatch, original_hw: Sequence[tuple[int, int]]) -> list[Detections]:
        """Best-scoring boxes of each image in pixels of the original image of size `original_hw`."""
        return self.readout(self(images), original_hw, self.classes)


class TwoStageLoss(nn.Module):
    """The losses of both stages. To the first every object is of one class; its "classification" and "box" are named
    "objectness" and "proposal_box".
    """

    def __init__(self, first: Criterion, second: Criterion) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, output: DenseOutput, targets: Sequence[Target], progress: float) -> dict[str, Float[Tensor, ""]]:
        """Weighted scalars."""
        of_one_class = [replace(target, labels=target.labels.new_zeros(len(target))) for target in targets]
        names = {"classification": "objectness", "box": "proposal_box"}
        first = self.first(output, of_one_class, progress)
        return {names.get(name, name): value for name, value in first.items()} | self.second(output, targets, progress)
