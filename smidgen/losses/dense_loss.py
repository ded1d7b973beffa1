"""How wrong the answers of every cell are: with anchors (RetinaNet, QueryDet) or as points (FCOS).

Lin et al., "Focal Loss for Dense Object Detection", 2017; Tian et al., "FCOS", 2019; levels weighted as in Yang et
al., "QueryDet", CVPR 2022, equations 4 and 5. All levels are divided by one common number, so that a level's weight
means the same whatever it holds. Training is dense: these losses need the answers of all cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from smidgen.boxes import aligned_giou, full_precision
from smidgen.boxes.anchors import AnchorShapes, cell_centers
from smidgen.boxes.answer_matches import AnswerMatches
from smidgen.boxes.box_coding import decode_deltas, decode_distances, encode_deltas, encode_distances
from smidgen.nn.process_mean import process_mean
from smidgen.nn.recomputed_sum import recomputed_sum
from smidgen.structures import DenseOutput, Matches, Target

AnchorAssignment: TypeAlias = Callable[[Tensor, Target], AnswerMatches]
"""(all anchors of an image, "N 4" in pixels; its target) to matches, such as `AnchorOverlap()`."""

PointAssignment: TypeAlias = Callable[[Sequence[Tensor], Sequence[int], Target], AnswerMatches]
"""(points of each level, "n 2" in pixels; strides; the image's target) to matches, such as `CenterSampling()`."""

Normalizer: TypeAlias = Callable[[AnswerMatches], Tensor]
"""What sums are divided by, from the whole batch's matches: see `smidgen.losses.positive_count`."""

ClassLoss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(logits, wanted 0 or 1) to the loss, element by element."""

BoxLoss: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(deltas, anchors, objects' boxes), each "P 4" in xyxy pixels, to the loss of each pair."""


class DenseTerm(Protocol):
    """How wrong something else in the output is (small-object maps): unweighted scalars by name."""

    def __call__(
        self, output: DenseOutput, targets: Sequence[Target], progress: float
    ) -> dict[str, Float[Tensor, ""]]: ...


@dataclass(frozen=True, kw_only=True)
class FocalLoss:
    """Lin et al., 2017, equation 5: alpha (for positives) 0.25, gamma 2."""

    alpha: float = 0.25
    gamma: float = 2.0

    def __call__(self, logits: Float[Tensor, "*shape"], wanted: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Element by element."""
        loss: Tensor = sigmoid_focal_loss(logits, wanted, self.alpha, self.gamma)
        return loss


@dataclass(frozen=True, kw_only=True)
class SmoothL1OfDeltas:
    """Difference of the four deltas from those of the object's box, quadratic below beta, 0.1."""

    beta: float = 0.1

    def __call__(
        self, deltas: Float[Tensor, "P 4"], anchors_xyxy: Float[Tensor, "P 4"], boxes_xyxy: Float[Tensor, "P 4"]
    ) -> Float[Tensor, " P"]:
        """Summed over the coordinates."""
        wanted = encode_deltas(anchors_xyxy, boxes_xyxy).to(deltas.dtype)
        return F.smooth_l1_loss(deltas, wanted, reduction="none", beta=self.beta).sum(-1)


def giou_of_deltas(
    deltas: Float[Tensor, "P 4"], anchors_xyxy: Float[Tensor, "P 4"], boxes_xyxy: Float[Tensor, "P 4"]
) -> Float[Tensor, " P"]:
    """1 - generalized IoU of the decoded boxes with their objects'."""
    return 1 - aligned_giou(decode_deltas(anchors_xyxy, deltas), boxes_xyxy)


class AnchorLoss(nn.Module):
    """The criterion of a dense head with anchors: `criterion(output, targets, progress)`; the loss is the sum of the
    values, "classification", "box" and those of the further `terms`, which are (weight, term) pairs.

    level_weights: a factor for each level, finest first (None = 1). class_loss: focal; for a region proposal network
    binary cross entropy with reduction "none", over targets of a single class.
    """

    def __init__(
        self,
        anchors: AnchorShapes,
        assignment: AnchorAssignment,
        normalizer: Normalizer,
        *,
        level_weights: Sequence[float] | None = None,
        class_loss: ClassLoss | None = None,
        box_loss: BoxLoss | None = None,
        terms: Sequence[tuple[float, DenseTerm]] = (),
    ) -> None:
        super().__init__()
        self.anchors, self.assignment, self.normalizer = anchors, assignment, normalizer
        self.level_weights = None if level_weights is None else tuple(level_weights)
        self.class_loss: ClassLoss = FocalLoss() if class_loss is None else class_loss
        self.box_loss: BoxLoss = SmoothL1OfDeltas() if box_loss is None else box_loss
        self.terms = tuple(terms)
        self.stateful_terms = nn.ModuleList([term for _, term in self.terms if isinstance(term, nn.Module)])

    def forward(self, output: DenseOutput, targets: Sequence[Target], progress: float) -> dict[str, Float[Tensor, ""]]:
        """Weighted scalars. targets: one per image, on the output's device. progress: share of the training done."""
        matches = self.matches(output, targets)
        normalizer = self.normalizer(matches)
        losses = {
            "classification": _weighted(self.class_sums(output, targets, matches), self.level_weights) / normalizer,
            "box": _weighted(self.box_sums(output, targets, matches), self.level_weights) / normalizer,
        }
        return losses | _further_losses(self.terms, output, targets, progress)

    def matches(self, output: DenseOutput, targets: Sequence[Target]) -> AnswerMatches:
        """Which object each anchor answers for, levels one after the other."""
        anchors = self._anchors(output)
        return AnswerMatches.stack([self.assignment(anchors, target) for target in targets])

    def class_sums(self, output: DenseOutput, targets: Sequence[Target], matches: AnswerMatches) -> Float[Tensor, " L"]:
        """Sum over all anchors that are judged, level by level."""
        return _class_sums(output, targets, matches, self.class_loss)

    def box_sums(self, output: DenseOutput, targets: Sequence[Target], matches: AnswerMatches) -> Float[Tensor, " L"]:
        """Sum over positive anchors, level by level."""
        pairs = matches.pairs()
        deltas = _regression(output)[pairs.image, pairs.query]
        losses = self.box_loss(deltas, self._anchors(output)[pairs.query], _objects(pairs, targets))
        return _sums_by_level(losses, pairs, output)

    def _anchors(self, output: DenseOutput) -> Float[Tensor, "N 4"]:
        if len(self.anchors.sizes) != len(output.levels):
            raise ValueError(
                f"expected answers of {len(self.anchors.sizes)} levels, for which there are anchor sizes, "
                f"got {len(output.levels)}"
            )
        device = output.levels[0].logits.device
        levels = [
            self.anchors.of_level(index, level.shape, stride, device).flatten(0, 1)
            for index, (level, stride) in enumerate(zip(output.levels, output.strides, strict=True))
        ]
        return torch.cat(levels)


class PointLoss(nn.Module):
    """The criterion of a dense head that answers once for each cell (FCOS); values "classification", "box",
    "centerness" and those of the further `terms`.

    Boxes: 1 - generalized IoU, weighted by the centerness that the point should have and divided by the sum of these
    weights. level_weights, class_loss, terms: as in `AnchorLoss`.
    """

    def __init__(
        self,
        assignment: PointAssignment,
        normalizer: Normalizer,
        *,
        level_weights: Sequence[float] | None = None,
        class_loss: ClassLoss | None = None,
        terms: Sequence[tuple[float, DenseTerm]] = (),
    ) -> None:
        super().__init__()
        self.assignment, self.normalizer = assignment, normalizer
        self.level_weights = None if level_weights is None else tuple(level_weights)
        self.class_loss: ClassLoss = FocalLoss() if class_loss is None else class_loss
        self.terms = tuple(terms)
        self.stateful_terms = nn.ModuleList([term for _, term in self.terms if isinstance(term, nn.Module)])

    def forward(self, output: DenseOutput, targets: Sequence[Target], progress: float) -> dict[str, Float[Tensor, ""]]:
        """Weighted scalars. targets: one per image, on the output's device. progress: share of the training done."""
        matches = self.matches(output, targets)
        normalizer = self.normalizer(matches)
        class_sums = _class_sums(output, targets, matches, self.class_loss)
        box_sums, centerness_sums, total_centerness = self._regression_sums(output, targets, matches)
        losses = {
            "classification": _weighted(class_sums, self.level_weights) / normalizer,
            "box": _weighted(box_sums, self.level_weights) / process_mean(total_centerness).clamp(min=1e-6),
            "centerness": _weighted(centerness_sums, self.level_weights) / normalizer,
        }
        return losses | _further_losses(self.terms, output, targets, progress)

    def matches(self, output: DenseOutput, targets: Sequence[Target]) -> AnswerMatches:
        """Which object each point answers for, levels one after the other."""
        points = _points(output)
        return AnswerMatches.stack([self.assignment(points, output.strides, target) for target in targets])

    def _regression_sums(
        self, output: DenseOutput, targets: Sequence[Target], matches: AnswerMatches
    ) -> tuple[Float[Tensor, " L"], Float[Tensor, " L"], Float[Tensor, ""]]:
        """Box and centerness losses level by level, and the sum of the centerness that there should be."""
        pairs = matches.pairs()
        points, boxes = torch.cat(_points(output))[pairs.query], _objects(pairs, targets)
        centerness = centerness_of(encode_distances(points, boxes))
        predicted = decode_distances(points, _regression(output)[pairs.image, pairs.query])
        box_losses = (1 - aligned_giou(predicted, boxes)) * centerness
        logits = _centerness_logits(output)[pairs.image, pairs.query]
        centerness_losses = F.binary_cross_entropy_with_logits(logits, centerness.to(logits.dtype), reduction="none")
        return (
            _sums_by_level(box_losses, pairs, output),
            _sums_by_level(centerness_losses, pairs, output),
            centerness.sum(),
        )


def centerness_of(distances: Float[Tensor, "*shape 4"]) -> Float[Tensor, "*shape"]:
    """1 at a box's center, 0 at its sides, from a point's distances to left, top, right and bottom (FCOS, equation
    3).
    """
    left, top, right, bottom = distances.unbind(-1)
    horizontal = torch.minimum(left, right) / torch.maximum(left, right)
    vertical = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    return (horizontal * vertical).clamp(min=0).sqrt()


def _class_sums(
    output: DenseOutput, targets: Sequence[Target], matches: AnswerMatches, class_loss: ClassLoss
) -> Float[Tensor, " L"]:
    labels = matches.labels(targets, output.levels[0].logits.shape[-1])
    terms = partial(_class_terms, class_loss)
    return torch.stack(
        [
            recomputed_sum(terms, level.per_image(level.logits).flatten(0, 1), label.flatten())
            for level, label in zip(output.levels, labels.split(_sizes(output), dim=1), strict=True)
        ]
    )


def _class_terms(
    class_loss: ClassLoss, logits: Float[Tensor, "n K"], labels: Int[Tensor, " n"]
) -> Float[Tensor, "n K"]:
    logits = full_precision(logits)
    wanted = labels[:, None] == torch.arange(logits.shape[1], device=labels.device)
    return class_loss(logits, wanted.to(logits.dtype)) * (labels >= 0)[:, None]


def _sizes(output: DenseOutput) -> list[int]:
    """Answers of one image on each level."""
    return [level.shape[0] * level.shape[1] * level.logits.shape[1] for level in output.levels]


def _points(output: DenseOutput) -> list[Float[Tensor, "_ 2"]]:
    device = output.levels[0].logits.device
    return [
        cell_centers(level.shape, stride, device=device)
        for level, stride in zip(output.levels, output.strides, strict=True)
    ]


def _regression(output: DenseOutput) -> Float[Tensor, "B N 4"]:
    return full_precision(torch.cat([level.per_image(level.regression) for level in output.levels], dim=1))


def _centerness_logits(output: DenseOutput) -> Float[Tensor, "B N"]:
    rows = []
    for level in output.levels:
        if level.centerness is None:
            raise ValueError("expected a head with centerness for the loss of points; set centerness=True of the head")
        rows.append(level.per_image(level.centerness[..., None])[..., 0])
    return full_precision(torch.cat(rows, dim=1))


def _objects(pairs: Matches, targets: Sequence[Target]) -> Float[Tensor, "P 4"]:
    return full_precision(torch.cat([target.boxes_xyxy for target in targets])[pairs.flat_target(targets)])


def _sums_by_level(losses: Float[Tensor, " P"], pairs: Matches, output: DenseOutput) -> Float[Tensor, " L"]:
    level = _level_of(pairs.query, _sizes(output))
    return losses.new_zeros(len(output.levels)).index_add(0, level, losses)


def _level_of(answer: Int[Tensor, " P"], sizes: Sequence[int]) -> Int[Tensor, " P"]:
    level, start = torch.zeros_like(answer), 0
    for size in sizes[:-1]:
        start += size
        level = level + (answer >= start)
    return level


def _weighted(sums: Float[Tensor, " L"], weights: Sequence[float] | None) -> Float[Tensor, ""]:
    if weights is None:
        return sums.sum()
    if len(weights) != len(sums):
        raise ValueError(f"expected one weight for each of {len(sums)} levels, got {tuple(weights)}")
    return (sums * sums.new_tensor(weights)).sum()


def _further_losses(
    terms: Sequence[tuple[float, DenseTerm]], output: DenseOutput, targets: Sequence[Target], progress: float
) -> dict[str, Tensor]:
    losses: dict[str, Tensor] = {}
    for weight, term in terms:
        losses |= {name: weight * value for name, value in term(output, targets, progress).items()}
    return losses
