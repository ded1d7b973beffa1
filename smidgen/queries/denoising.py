"""Queries made from the objects themselves, noised, which the decoder learns to put right.

`Denoising`: Li et al., "DN-DETR: Accelerate DETR Training by Introducing Query DeNoising", 2022.
`ContrastiveDenoising`: Zhang et al., "DINO: DETR with Improved DeNoising Anchor Boxes", 2023, section 3.3, with a
negative beside each positive. The official code walks over images and groups; here every object of every copy is noised
and placed at once.

The label table's gradient: forward looks the table up even when a batch has no objects, and an empty lookup has a
gradient of zeros. So the table takes part in every backward pass, also under DistributedDataParallel, as long as the
model joins the returned queries, zero rows included, and never skips them; nothing has to be multiplied by zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from smidgen.boxes import clip_to_image, cxcywh_to_xyxy, inverse_sigmoid, xyxy_to_cxcywh
from smidgen.structures import Matches, Queries, QueryGroup, Target, send

WHOLE_IMAGE_HW = (1, 1)  # the size of an image whose boxes are shares of it


@dataclass(frozen=True, slots=True)
class DenoisingNoise:
    """The randomness of one batch: a row per copy of an object, copy 0 of all objects first, images in order.

    flip: in [0, 1), the label is replaced where it is below the flip probability. labels: the classes that replace it.
    direction: 0 or 1 per coordinate, for -1 or +1. amount: in [0, 1) per coordinate.
    """

    flip: Float[Tensor, " R"]
    labels: Int[Tensor, " R"]
    direction: Float[Tensor, "R 4"]
    amount: Float[Tensor, "R 4"]

    @staticmethod
    def draw(rows: int, num_classes: int, device: torch.device | str = "cpu") -> DenoisingNoise:
        """Fresh noise from torch's generator, in the official order of calls."""
        flip = torch.rand(rows, device=device)
        labels = torch.randint(num_classes, (rows,), device=device)
        direction = torch.randint(2, (rows, 4), device=device).float()
        return DenoisingNoise(flip, labels, direction, torch.rand(rows, 4, device=device))

    @staticmethod
    def recorded(
        flip: Float[Tensor, " R"],
        flipped_labels: Int[Tensor, " F"],
        direction: Float[Tensor, "R 4"],
        amount: Float[Tensor, "R 4"],
        flip_probability: float,
    ) -> DenoisingNoise:
        """Noise recorded from IDEA-Research's code, which draws classes only for the F labels that are replaced."""
        labels = torch.zeros(flip.shape, dtype=torch.long, device=flip.device)
        labels[flip < flip_probability] = flipped_labels
        return DenoisingNoise(flip, labels, direction, amount)


GroupRule: TypeAlias = Callable[[int], int]
"""Objects of the batch's fullest image to the number of denoising groups, at least 1."""


@dataclass(frozen=True)
class GroupsThatFit:
    """As many groups as `num_queries` (positive, negative) pairs allow, at least one (Salience DETR's rule)."""

    num_queries: int = 100

    def __call__(self, most_objects: int) -> int:
        return max(1, self.num_queries // most_objects) if most_objects else 1


@dataclass(frozen=True)
class OfficialGroups:
    """IDEA-Research's rule, with its flaw: below 50 the doubled `num_queries` is taken for the number of groups."""

    num_queries: int = 100

    def __call__(self, most_objects: int) -> int:
        if most_objects == 0:
            return 1
        doubled = 2 * self.num_queries
        return max(1, doubled // (2 * most_objects) if doubled >= 100 else doubled)


@dataclass(frozen=True)
class FixedGroups:
    """The same number of groups for every batch (DN-DETR)."""

    groups: int = 5

    def __call__(self, most_objects: int) -> int:
        return self.groups


class ContrastiveDenoising(nn.Module):
    """DINO's denoising: each group holds every object once as a positive and once, noised further, as a negative.

    num_queries: pairs shared by the groups. label_noise: twice the probability that a label is replaced by a random
    class. box_noise: how far each side moves, in half sizes of the box: up to this for positives, from this to twice
    this for negatives (1.0 as DINO is launched, not its configuration's 0.4). eps: of the inverse sigmoid that boxes
    pass, 1e-3 in the official code. table_size: rows of the label table (None = num_classes as in Relation-DETR and
    Salience DETR; 92 for 91 classes in DINO).

    What official training does otherwise, by option:
    groups: "clean" = as many as fit; "official" = `OfficialGroups`; or any `GroupRule`.
    max_objects: of an image with more, as many are drawn at random for denoising (None = all, official: 2,000 objects
    give 4,000 queries). mask_free_slots: slots of an image with fewer objects than its fullest batch mate are padding;
    False = they attend and are supervised as background (official).
    """

    def __init__(
        self,
        num_classes: int,
        width: int,
        num_queries: int = 100,
        label_noise: float = 0.5,
        box_noise: float = 1.0,
        eps: float = 1e-3,
        *,
        table_size: int | None = None,
        groups: Literal["clean", "official"] | GroupRule = "clean",
        max_objects: int | None = 500,
        mask_free_slots: bool = True,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.flip_probability = label_noise / 2
        self.box_noise = box_noise
        self.eps = eps
        self.group_rule = _group_rule(groups, num_queries)
        self.max_objects = max_objects
        self.mask_free_slots = mask_free_slots
        self.label_encoder = nn.Embedding(_checked_table_size(table_size, num_classes), width)

    def forward(self, targets: Sequence[Target], noise: DenoisingNoise | None = None) -> Queries:
        """One group of queries with its known matches (positives only); zero rows where no image has objects.

        Within a group the first slots are the positives of the objects in their order, the next as many the negatives.
        References are boxes (cxcywh in [0, 1]) without gradient; free slots have content 0 and box 0.5.
        """
        objects = _gather(targets, self.max_objects, self.label_encoder.weight.device)
        groups = self.group_rule(objects.most)
        copies = 2 * groups
        noise = noise or DenoisingNoise.draw(copies * len(objects), self.num_classes, objects.labels.device)
        labels = _replaced_labels(objects.labels.repeat(copies), noise, self.flip_probability)
        boxes = _moved_corners(objects.boxes_cxcywh.repeat(copies, 1), self._moves(noise, objects, groups))
        slots = _place(objects, copies, labels, boxes, self.eps)
        content = _looked_up(self.label_encoder.weight, slots)
        group = QueryGroup("denoising", 2 * objects.most, groups, objects.matches(groups, 2 * objects.most))
        padding = slots.free if self.mask_free_slots else None
        return Queries(content, slots.reference, padding=padding, groups=(group,))

    def _moves(self, noise: DenoisingNoise, objects: _Objects, groups: int) -> Float[Tensor, "R 4"]:
        """Signed moves in half sizes of the box; every second copy is a negative and moves by one more."""
        further = torch.arange(2 * groups, device=noise.amount.device) % 2
        amount = noise.amount + further.repeat_interleave(len(objects), output_size=len(noise.amount))[:, None]
        return (2 * noise.direction - 1) * amount * self.box_noise


class Denoising(nn.Module):
    """DN-DETR's denoising in DN-Deformable DETR's form: every group holds every object once.

    groups: number of copies. label_noise: probability that a label is replaced by a random class. box_noise: the center
    moves by up to this share of half the size, the size changes by up to this share of itself. The label table is one
    column narrower than the queries: the last column is the indicator, 1 for denoising queries, 0 for the others.
    eps, table_size, max_objects, mask_free_slots: as in `ContrastiveDenoising`.
    """

    def __init__(
        self,
        num_classes: int,
        width: int,
        groups: int = 5,
        label_noise: float = 0.2,
        box_noise: float = 0.4,
        eps: float = 1e-3,
        *,
        table_size: int | None = None,
        max_objects: int | None = 500,
        mask_free_slots: bool = True,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.flip_probability = label_noise
        self.box_noise = box_noise
        self.eps = eps
        self.group_rule = FixedGroups(groups)
        self.max_objects = max_objects
        self.mask_free_slots = mask_free_slots
        self.label_encoder = nn.Embedding(_checked_table_size(table_size, num_classes), width - 1)

    def forward(self, targets: Sequence[Target], noise: DenoisingNoise | None = None) -> Queries:
        """One group of queries with its known matches; zero rows where no image has objects.

        References and free slots as in `ContrastiveDenoising`.
        """
        objects = _gather(targets, self.max_objects, self.label_encoder.weight.device)
        groups = self.group_rule(objects.most)
        noise = noise or DenoisingNoise.draw(groups * len(objects), self.num_classes, objects.labels.device)
        labels = _replaced_labels(objects.labels.repeat(groups), noise, self.flip_probability)
        moves = (2 * noise.direction - 1) * noise.amount * self.box_noise
        boxes = _moved_center_and_size(objects.boxes_cxcywh.repeat(groups, 1), moves)
        slots = _place(objects, groups, labels, boxes, self.eps)
        content = _looked_up(_with_indicator(self.label_encoder.weight), slots)
        group = QueryGroup("denoising", objects.most, groups, objects.matches(groups, objects.most))
        padding = slots.free if self.mask_free_slots else None
        return Queries(content, slots.reference, padding=padding, groups=(group,))


@dataclass(frozen=True, slots=True)
class _Objects:
    """All images' objects in one run: their image, their slot among the image's queries, their index in the target."""

    boxes_cxcywh: Float[Tensor, "n 4"]
    labels: Int[Tensor, " n"]
    image: Int[Tensor, " n"]
    slot: Int[Tensor, " n"]
    index: Int[Tensor, " n"]
    num_images: int
    most: int

    def __len__(self) -> int:
        return self.labels.shape[0]

    def rows(self, copies: int, step: int) -> Int[Tensor, " R"]:
        """Query row of each copy of each object, copies `step` rows apart."""
        starts = torch.arange(copies, device=self.slot.device) * step
        return (starts[:, None] + self.slot).flatten()

    def matches(self, groups: int, step: int) -> Matches:
        """Each group's first copy of each object answers for it; query rows count from the first denoising query."""
        return Matches(self.image.repeat(groups), self.rows(groups, step), self.index.repeat(groups))


def _gather(targets: Sequence[Target], max_objects: int | None, device: torch.device) -> _Objects:
    chosen = [_chosen(len(target), max_objects, device) for target in targets]
    counts = torch.tensor([len(index) for index in chosen])
    image = torch.arange(len(targets)).repeat_interleave(counts)  # counts stay on the host: nothing waits for a GPU
    slot = torch.arange(len(image)) - (counts.cumsum(0) - counts)[image]
    boxes = [target.boxes_cxcywh[index] for target, index in zip(targets, chosen, strict=True)]
    labels = [target.labels[index] for target, index in zip(targets, chosen, strict=True)]
    most = max(len(index) for index in chosen)
    image, slot = send(image, device), send(slot, device)
    return _Objects(torch.cat(boxes).float(), torch.cat(labels), image, slot, torch.cat(chosen), len(targets), most)


def _chosen(num_objects: int, max_objects: int | None, device: torch.device) -> Int[Tensor, " m"]:
    if max_objects is None or num_objects <= max_objects:
        return torch.arange(num_objects, device=device)
    return torch.randperm(num_objects, device=device)[:max_objects].sort().values


def _replaced_labels(labels: Int[Tensor, " R"], noise: DenoisingNoise, probability: float) -> Int[Tensor, " R"]:
    if noise.flip.shape != labels.shape:
        raise ValueError(f"expected noise for {len(labels)} noised objects, got it for {len(noise.flip)}")
    return torch.where(noise.flip < probability, noise.labels, labels)


def _moved_corners(boxes_cxcywh: Float[Tensor, "R 4"], moves: Float[Tensor, "R 4"]) -> Float[Tensor, "R 4"]:
    """Corners moved in half sizes of the box and clipped; crossed corners give negative sizes, as in official code."""
    half_size = boxes_cxcywh[:, 2:].repeat(1, 2) / 2
    return xyxy_to_cxcywh(clip_to_image(cxcywh_to_xyxy(boxes_cxcywh) + moves * half_size, WHOLE_IMAGE_HW))


def _moved_center_and_size(boxes_cxcywh: Float[Tensor, "R 4"], moves: Float[Tensor, "R 4"]) -> Float[Tensor, "R 4"]:
    """Center moved in half sizes, size changed in whole sizes; every number clamped to [0, 1]."""
    size = boxes_cxcywh[:, 2:]
    return (boxes_cxcywh + moves * torch.cat([size / 2, size], dim=1)).clamp(min=0, max=1)


def _with_indicator(table: Float[Tensor, "T c"]) -> Float[Tensor, "T C"]:
    return torch.cat([table, table.new_ones((len(table), 1))], dim=1)


@dataclass(frozen=True, slots=True)
class _Slots:
    """All images' query rows: label (0 where free) and box of what was placed there; free where nothing was."""

    labels: Int[Tensor, "B Q"]
    reference: Float[Tensor, "B Q 4"]
    free: Bool[Tensor, "B Q"]


def _place(
    objects: _Objects, copies: int, labels: Int[Tensor, " R"], boxes_cxcywh: Float[Tensor, "R 4"], eps: float
) -> _Slots:
    """Rows to their image and query slot; free slots have box 0.5."""
    shape = (objects.num_images, copies * objects.most)
    where = (objects.image.repeat(copies), objects.rows(copies, objects.most))
    reference = boxes_cxcywh.new_full((*shape, 4), 0.5).index_put(where, inverse_sigmoid(boxes_cxcywh, eps).sigmoid())
    free = torch.ones(shape, dtype=torch.bool, device=labels.device).index_put(where, torch.zeros_like(labels).bool())
    return _Slots(labels.new_zeros(shape).index_put(where, labels), reference, free)


def _looked_up(table: Float[Tensor, "T C"], slots: _Slots) -> Float[Tensor, "B Q C"]:
    """Each slot's row of the label table; free slots look up a row of zeros put below it."""
    with_zeros = torch.cat([table, table.new_zeros((1, table.shape[1]))])
    return F.embedding(slots.labels.masked_fill(slots.free, len(table)), with_zeros)


def _group_rule(groups: Literal["clean", "official"] | GroupRule, num_queries: int) -> GroupRule:
    if callable(groups):
        return groups
    return OfficialGroups(num_queries) if groups == "official" else GroupsThatFit(num_queries)


def _checked_table_size(table_size: int | None, num_classes: int) -> int:
    if table_size is not None and table_size < num_classes:
        raise ValueError(f"expected a label table of at least num_classes = {num_classes} rows, got {table_size}")
    return table_size or num_classes
