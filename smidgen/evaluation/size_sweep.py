"""The smallest object a detector can see: recall against object side in pixels, found by shrinking labeled images.

Every image is shown at several scales (shrunk_view.py). An object that was small in its image and one that was made
small differ in their surroundings, and a shrunk image leaves much of the canvas empty: hence a curve for each scale
beside the pooled one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from smidgen.data import DetectionDataset, UnreadableImageError
from smidgen.data.sample import Sample, load_sample
from smidgen.evaluation.annotations import read_ground_truth, read_results
from smidgen.evaluation.detect_and_score import as_results, ids_in_dataset
from smidgen.evaluation.engine import Engine
from smidgen.evaluation.model_state import device_of, evaluating
from smidgen.evaluation.recall_by_size import (
    ContextEffect,
    RecallCurve,
    SideReached,
    SizedObjects,
    context_effect,
    recall_curve,
    side_edges,
    sides_reached,
)
from smidgen.evaluation.resampling import resampled_images
from smidgen.evaluation.shrunk_view import ShrunkView, on_canvas, shrink
from smidgen.structures import Classes, Detections, Preprocessing, Target

# A third of an octave apart, as the bins are: one scale's objects move to the next bin on the next scale.
SCALES = (1.0, 0.8, 0.63, 0.5, 0.4, 0.315, 0.25, 0.2)
EVERY_SIZE = (0.0, 1e10)


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeSweep:
    """Recall by side. curves: each scale. skipped: files that could not be read. absent_classes: of the data set, which
    the model does not know and whose objects were left out. objects: shown, at all scales.
    """

    pooled: RecallCurve
    curves: tuple[RecallCurve, ...]
    sides: tuple[SideReached, ...]
    context: ContextEffect | None
    settings: dict[str, Any]
    images: int
    objects: int
    skipped: tuple[str, ...]
    absent_classes: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """The table: all scales pooled, then each."""
        return [row for curve in (self.pooled, *self.curves) for row in curve.rows()]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "answer": self.in_words(),
            "sides": [side.to_json() for side in self.sides],
            "context": None if self.context is None else asdict(self.context),
            "curve": self.rows(),
            "images": self.images,
            "objects": self.objects,
            "skipped": list(self.skipped),
            "classes_not_in_model": list(self.absent_classes),
            "settings": self.settings,
        }

    def in_words(self) -> list[str]:
        """The answer in sentences."""
        if not self.objects:
            return ["There is no object to look for in these images."]
        return [*(side.in_words() for side in self.sides), *self._context_in_words()]

    def _context_in_words(self) -> list[str]:
        if self.context is None:
            return []
        effect, least = self.context, max(self.settings["scales"])
        interval = f"{effect.low:+.2f} to {effect.high:+.2f}"
        told = "so their surroundings matter too" if effect.low > 0 or effect.high < 0 else "which may be chance"
        return [
            f"At equal side, the recall of objects at scale {least:g} differs by {effect.value:+.2f} from that of "
            f"objects shrunk further ({interval}), {told}."
        ]


@dataclass(frozen=True, slots=True)
class _Shown:
    """One image at one scale. image: its place among the readable ones. target: in pixels of the network's input."""

    image: int
    scale: float
    target: Target


def sweep_size(
    model: nn.Module,
    dataset: DetectionDataset,
    *,
    scales: Sequence[float] = SCALES,
    score: float = 0.3,
    iou: float = 0.5,
    batch_size: int = 2,
    samples: int = 500,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> SizeSweep:
    """Recall by object side of detections of at least `score`, each of which finds one object of its class.

    scales: in (0, 1]. iou: from which overlap on an object is found. samples, seed: of the bootstrap over images.
    progress: called with the number of images done and of all. Regions to ignore are no objects; images that cannot be
    read are left out and named. Raises ValueError for settings out of range and where no class is shared.
    """
    scales = _checked(scales, score, iou, samples)
    class_ids = ids_in_dataset(model.classes, dataset.classes)  # type: ignore[arg-type]
    shown: list[_Shown] = []
    results: list[dict[str, Any]] = []
    skipped: list[str] = []
    with evaluating(model), torch.inference_mode():
        for index, record in enumerate(dataset.records):
            try:
                sample = _of_known_classes(load_sample(record), dataset.classes, class_ids)
            except UnreadableImageError as error:
                skipped.append(str(error))
            else:
                for views, found in _detect(model, sample, scales, batch_size):
                    targets = [_target(view, len(shown) + place) for place, view in enumerate(views)]
                    confident = [_finite(one).above(score) for one in found]
                    results += as_results(confident, targets, class_ids)
                    image = index - len(skipped)
                    shown += [_Shown(image, view.scale, one) for view, one in zip(views, targets, strict=True)]
            if progress is not None:
                progress(index + 1, len(dataset))
    return _summary(
        _judged(shown, results, dataset.classes, iou),
        resampled_images(len(dataset) - len(skipped), samples, np.random.default_rng(seed)),
        {"scales": list(scales), "score": score, "iou": iou, "samples": samples, "seed": seed, "split": dataset.split},
        skipped=tuple(skipped),
        absent=_absent(dataset.classes, class_ids),
    )


def _checked(scales: Sequence[float], score: float, iou: float, samples: int) -> tuple[float, ...]:
    if not scales or any(not 0 < scale <= 1 for scale in scales):
        raise ValueError(f"expected scales in (0, 1] (images are shrunk, never enlarged), got {list(scales)}")
    if not 0 <= score <= 1 or not 0 < iou <= 1 or samples < 1:
        raise ValueError(
            f"expected a score in [0, 1], an IoU in (0, 1] and at least 1 sample, got {score}, {iou} and {samples}"
        )
    return tuple(sorted(set(scales), reverse=True))


def _absent(classes: Classes, class_ids: Mapping[int, int]) -> tuple[str, ...]:
    """Names of the data set's classes that the model does not know."""
    known = set(class_ids.values())
    return tuple(name for name, identity in zip(classes.names, classes.ids, strict=True) if identity not in known)


def _of_known_classes(sample: Sample, classes: Classes, class_ids: Mapping[int, int]) -> Sample:
    known = torch.tensor([classes.ids.index(identity) for identity in class_ids.values()])
    return sample.with_boxes(torch.isin(sample.labels, known))


def _detect(
    model: Any, sample: Sample, scales: Sequence[float], batch_size: int
) -> Iterator[tuple[list[ShrunkView], list[Detections]]]:
    """Views of one image in batches, and what was detected on them in pixels of the network's input."""
    preprocessing: Preprocessing = model.config.preprocessing
    canvas_hw = preprocessing.resized_hw(*sample.size_hw)
    for start in range(0, len(scales), batch_size):
        views = [shrink(sample, scale, canvas_hw) for scale in scales[start : start + batch_size]]
        batch = on_canvas(views, canvas_hw, preprocessing.pad_multiple)
        yield views, model.detect(batch.to(device_of(model)), list(batch.sizes))


def _target(view: ShrunkView, number: int) -> Target:
    height, width = view.pixels.shape[-2:]
    return Target.of(view.boxes_xyxy, view.labels, (height, width), image_id=number)


def _finite(found: Detections) -> Detections:
    return found[found.boxes_xyxy.isfinite().all(dim=1) & found.scores.isfinite()]


def _judged(
    shown: Sequence[_Shown], results: Sequence[Mapping[str, Any]], classes: Classes, iou: float
) -> SizedObjects:
    """Which objects were found, by the matching of the COCO protocol, each view being an image of its own.

    Regions to ignore can be left out: matching prefers objects, so that they decide nothing about recall.
    """
    truth = read_ground_truth(_ground_truth(shown, classes))
    detected = read_results(results, truth)
    limit = max(1, int(np.bincount(detected.image).max(initial=0)))
    matching = Engine(truth, detected).match(thresholds=np.array([iou]), area=EVERY_SIZE, limit=limit)
    found = np.zeros(len(truth.image), np.bool_)
    found[matching.truth[0][matching.hit[0]]] = True
    image = np.array([one.image for one in shown], np.int64)[truth.image]
    scale = np.array([one.scale for one in shown], np.float64)[truth.image]
    return SizedObjects(image=image, scale=scale, side_px=np.sqrt(truth.area), found=found)


def _ground_truth(shown: Sequence[_Shown], classes: Classes) -> dict[str, Any]:
    annotations = [entry for one in shown for entry in _annotations(one.target, classes)]
    sizes = [one.target.size_hw for one in shown]
    return {
        "images": [{"id": number, "height": hw[0], "width": hw[1]} for number, hw in enumerate(sizes)],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, start=1)],
        "categories": [
            {"id": identity, "name": name} for identity, name in zip(classes.ids, classes.names, strict=True)
        ],
    }


def _annotations(target: Target, classes: Classes) -> list[dict[str, Any]]:
    boxes = target.boxes_xyxy.double()
    boxes[:, 2:] -= boxes[:, :2]
    return [
        {"image_id": target.image_id, "category_id": classes.ids[label], "bbox": box, "area": box[2] * box[3]}
        for box, label in zip(boxes.tolist(), target.labels.tolist(), strict=True)
    ]


def _summary(
    objects: SizedObjects,
    weights: NDArray[np.int64],
    settings: dict[str, Any],
    *,
    skipped: tuple[str, ...],
    absent: tuple[str, ...],
) -> SizeSweep:
    edges = side_edges(objects.side_px)
    pooled = recall_curve(objects, edges, weights)
    scales = settings["scales"]
    return SizeSweep(
        pooled=pooled,
        curves=tuple(recall_curve(objects[objects.scale == scale], edges, weights, scale) for scale in scales),
        sides=sides_reached(objects, pooled, weights),
        context=context_effect(objects, weights),
        settings=settings,
        images=weights.shape[1],
        objects=len(objects),
        skipped=skipped,
        absent_classes=absent,
    )
