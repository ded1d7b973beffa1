"""Pasting small objects, with the pixels around them, to places of an image where nothing is labeled.

Kisantal et al., "Augmentation for small object detection", 2019, paste segmented objects. Boxes have no outline, so
the surroundings come along here, fade out toward the patch's border, and must resemble those of the new place. Objects
whose surroundings show another object stay where they are, since a piece of it would arrive without a label.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from smidgen.data.augmentation import Augmentation
from smidgen.data.geometry import Window
from smidgen.data.sample import Sample

_PLACES_TRIED = 32
_SMALLEST_CONTEXT_PX = 2


@dataclass(frozen=True, slots=True)
class Patch:
    """An object with its surroundings. box_xyxy: pixels of `image`. opacity: 0..1 per pixel, 1 over the object."""

    image: UInt8[Tensor, "3 h w"]
    opacity: Float[Tensor, "h w"]
    box_xyxy: Float[Tensor, " 4"]
    label: Tensor


def paste_small_objects(sample: Sample, source: Sample, augmentation: Augmentation, rng: np.random.Generator) -> Sample:
    """Between one and `copy_paste_objects` small objects of `source`, each pasted once or more into `sample`."""
    candidates = _lonely_small_objects(source, augmentation)
    count = int(rng.integers(1, augmentation.copy_paste_objects, endpoint=True))
    if len(candidates) == 0:
        return sample
    image = sample.image.clone()
    occupied = torch.cat([sample.boxes_xyxy, sample.ignore_xyxy]).double().numpy()
    boxes, labels = [sample.boxes_xyxy], [sample.labels]
    for chosen in rng.choice(candidates, size=count):
        patch = _cut_patch(source, int(chosen), augmentation, rng)
        place = _place(image, patch, occupied, augmentation.copy_paste_difference, rng)
        if place is None:
            continue
        _blend(image, patch, place)
        occupied = np.concatenate([occupied, _corners(place)[None]])
        boxes.append((patch.box_xyxy + patch.box_xyxy.new_tensor([place.left, place.top] * 2))[None])
        labels.append(patch.label[None])
    return replace(sample, image=image, boxes_xyxy=torch.cat(boxes), labels=torch.cat(labels))


def _lonely_small_objects(source: Sample, augmentation: Augmentation) -> npt.NDArray[np.int64]:
    """Indices of objects that are small and whose surroundings touch nothing else that is labeled."""
    boxes = source.boxes_xyxy.double().numpy()
    others = np.concatenate([boxes, source.ignore_xyxy.double().numpy()])
    sides = boxes[:, 2:] - boxes[:, :2]
    small = np.sqrt(sides.prod(axis=1)) <= augmentation.copy_paste_largest_px
    context = np.maximum(augmentation.copy_paste_context * sides.max(axis=1, initial=0), _SMALLEST_CONTEXT_PX) + 1
    grown = boxes + context[:, None] * np.array([-1, -1, 1, 1])
    touched = _overlapping(grown, others).sum(axis=1) - 1  # Every box touches itself.
    # An object at the border is probably cut off there, and would be pasted cut off.
    height, width = source.size_hw
    whole = (boxes[:, 0] > 0) & (boxes[:, 1] > 0) & (boxes[:, 2] < width) & (boxes[:, 3] < height)
    return np.flatnonzero(small & whole & (touched == 0))


def _cut_patch(source: Sample, index: int, augmentation: Augmentation, rng: np.random.Generator) -> Patch:
    box = source.boxes_xyxy[index]
    x0, y0, x1, y1 = box.tolist()
    context = max(augmentation.copy_paste_context * max(x1 - x0, y1 - y0), _SMALLEST_CONTEXT_PX)
    height, width = source.size_hw
    left, top = max(0, math.floor(x0 - context)), max(0, math.floor(y0 - context))
    right, bottom = min(width, math.ceil(x1 + context)), min(height, math.ceil(y1 + context))
    inner = box - box.new_tensor([left, top, left, top])
    patch = Patch(
        source.image[:, top:bottom, left:right],
        _fading(inner, bottom - top, right - left, context),
        inner,
        source.labels[index],
    )
    return _mirrored(patch) if rng.random() < augmentation.horizontal_flip else patch


def _fading(box_xyxy: Float[Tensor, " 4"], height: int, width: int, context: float) -> Float[Tensor, "h w"]:
    """1 inside the box, falling linearly to 0 over the context."""
    x, y = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    x0, y0, x1, y1 = box_xyxy.tolist()
    beyond_x = torch.maximum(x0 - x, x - x1).clamp(min=0)
    beyond_y = torch.maximum(y0 - y, y - y1).clamp(min=0)
    return (1 - torch.maximum(beyond_y[:, None], beyond_x[None]) / context).clamp(min=0)


def _mirrored(patch: Patch) -> Patch:
    width = patch.image.shape[-1]
    x0, y0, x1, y1 = patch.box_xyxy.unbind()
    return replace(
        patch,
        image=patch.image.flip(-1),
        opacity=patch.opacity.flip(-1),
        box_xyxy=torch.stack([width - x1, y0, width - x0, y1]),
    )


def _place(
    image: UInt8[Tensor, "3 H W"],
    patch: Patch,
    occupied: npt.NDArray[np.float64],
    largest_difference: float,
    rng: np.random.Generator,
) -> Window | None:
    """Of several places where the patch covers nothing labeled, the one that resembles its surroundings most."""
    height, width = (int(side) for side in patch.image.shape[-2:])
    if height > image.shape[-2] or width > image.shape[-1]:
        return None
    top = rng.integers(0, image.shape[-2] - height, endpoint=True, size=_PLACES_TRIED)
    left = rng.integers(0, image.shape[-1] - width, endpoint=True, size=_PLACES_TRIED)
    corners = np.stack([left, top, left + width, top + height], axis=1).astype(np.float64)
    free = np.flatnonzero(~_overlapping(corners, occupied).any(axis=1))
    places = [Window(int(top[index]), int(left[index]), height, width) for index in free]
    differences = [_difference(image, patch, place) for place in places]
    best = int(np.argmin(differences)) if places else 0
    return places[best] if places and differences[best] <= largest_difference else None


def _difference(image: UInt8[Tensor, "3 H W"], patch: Patch, place: Window) -> float:
    """Mean absolute difference of the pixels around the object, 1 = black to white."""
    surroundings = patch.opacity < 1
    if not surroundings.any():
        return 0.0
    there = _region(image, place)[:, surroundings].float()
    return float((there - patch.image[:, surroundings].float()).abs().mean() / 255)


def _region(image: UInt8[Tensor, "3 H W"], place: Window) -> UInt8[Tensor, "3 h w"]:
    return image[:, place.top : place.top + place.height, place.left : place.left + place.width]


def _blend(image: UInt8[Tensor, "3 H W"], patch: Patch, place: Window) -> None:
    """In place."""
    region = _region(image, place)
    mixed = region.float().lerp(patch.image.float(), patch.opacity)
    region.copy_(mixed.round_())


def _overlapping(boxes: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which of the boxes (rows) share area with which others (columns)."""
    starts = np.maximum(boxes[:, None, :2], others[None, :, :2])
    stops = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    overlap = stops > starts
    return overlap[..., 0] & overlap[..., 1]


def _corners(place: Window) -> npt.NDArray[np.float64]:
    corners = [place.left, place.top, place.left + place.width, place.top + place.height]
    return np.array(corners, dtype=np.float64)
