"""An exported file against the model it was made from: other sizes, other batches, detections compared as sets.

A file that runs at another size may still be wrong there, where a number of the example image was written into it; one
that is right for one image may be wrong for two. So every file is run before it gets its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor

from smidgen.data.geometry import resize_pixels
from smidgen.export.bundle import Check
from smidgen.export.bundle_detector import BundleDetector, on_canvas
from smidgen.export.comparison import SetDifference, Tolerance, difference, total
from smidgen.structures import Detections, ImageBatch

PADDED_SHARE = 0.8
"""Sides of the second image of a batch, whose canvas it leaves partly empty."""


class Case(NamedTuple):
    """A batch to compare on: the size of its largest image, and how many images."""

    canvas_hw: tuple[int, int]
    images: int


def cases(example_hw: tuple[int, int], multiple: int, dynamic_size: bool) -> tuple[Case, ...]:
    """The example's size, a smaller and a larger one of other shapes, in batches of one and of two."""
    if not dynamic_size:
        return Case(example_hw, 1), Case(example_hw, 2)
    smaller = tuple(_rounded(side * 0.8, multiple) for side in example_hw)
    larger = _rounded(example_hw[1] * 1.2, multiple), _rounded(example_hw[0] * 1.1, multiple)
    return Case(example_hw, 1), Case((smaller[0], smaller[1]), 2), Case(larger, 1)


def verify(
    model: Any,
    detector: BundleDetector,
    tried: Sequence[Case],
    pictures: Sequence[UInt8[Tensor, "3 _ _"]],
    tolerance: Tolerance,
) -> tuple[tuple[Check, ...], bool]:
    """One check for each case, and whether all passed."""
    checks, passed, supply = [], True, _endless(pictures)
    for case in tried:
        images = _batch(case, supply, detector)
        found = compare_on(model, detector, images, tolerance)
        checks.append(
            Check(
                canvas_hw=(images.pixels.shape[2], images.pixels.shape[3]),
                images=len(images),
                pairs=found.pairs,
                missing=found.missing,
                surplus=found.surplus,
                worst_box=found.worst_box,
                worst_score=found.worst_score,
            )
        )
        passed = passed and found.within(tolerance)
    return tuple(checks), passed


def compare_on(model: Any, detector: BundleDetector, images: ImageBatch, tolerance: Tolerance) -> SetDifference:
    """The file's answer for the whole batch against the model's for each image of it alone, on the same canvas."""
    with torch.inference_mode():
        found = _found(detector, images)
        expected = [model.detect(_alone(images, index), [size]) for index, size in enumerate(images.sizes)]
    pairs = zip((one[0] for one in expected), found, strict=True)
    return total([difference(one, other, tolerance) for one, other in pairs])


def _found(detector: BundleDetector, images: ImageBatch) -> list[Detections]:
    try:
        return detector.detect(images, images.sizes)
    except Exception as error:  # every runtime has its own kinds
        height, width = images.pixels.shape[2:]
        raise ValueError(
            f"expected the file to run on {len(images)} images of {height}x{width}, got: {str(error).splitlines()[0]}; "
            "where a map has fewer tokens than there are queries, export at a larger --size, or with --fixed-size"
        ) from error


def _batch(case: Case, supply: Iterator[Tensor], detector: BundleDetector) -> ImageBatch:
    shares = [1.0] + [PADDED_SHARE] * (case.images - 1)
    sizes = [(round(case.canvas_hw[0] * share), round(case.canvas_hw[1] * share)) for share in shares]
    images = [resize_pixels(next(supply), size) for size in sizes]
    batch = ImageBatch.collate(images, detector.preprocessing.pad_multiple)
    return on_canvas(batch, detector.bundle.canvas)


def _alone(images: ImageBatch, index: int) -> ImageBatch:
    only = slice(index, index + 1)
    return ImageBatch(images.pixels[only], images.padding[only], images.sizes[only])


def _endless(pictures: Sequence[Tensor]) -> Iterator[Tensor]:
    while True:
        yield from pictures


def _rounded(side: float, multiple: int) -> int:
    return max(1, round(side / multiple)) * multiple
