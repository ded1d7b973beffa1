"""A model judged on a data set: its detections, and what a protocol says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from smidgen.data import DetectionDataset, evaluation_loader
from smidgen.evaluation.evaluation import Evaluation
from smidgen.evaluation.model_state import device_of, evaluating
from smidgen.evaluation.protocol import Protocol, load_protocol
from smidgen.evaluation.scoring import score
from smidgen.inference import OptimizedDetector
from smidgen.structures import Classes, Detections, Preprocessing, Target


def evaluate(
    model: nn.Module,
    dataset: DetectionDataset,
    *,
    protocol: str | Path | Protocol = "coco",
    batch_size: int = 2,
    device: torch.device | str | None = None,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Detect on every image of `dataset` and score what was found.

    device: where to run (the model moves there); None = where the model is. progress: called with the number of images
    done and of all. Nothing is cut by score, and detections are limited by the protocol alone. Images that cannot be
    read are named in settings["skipped"]; their objects count as missed. The model keeps the modes it had.
    Raises ValueError where model and data set have no class in common.
    """
    protocol = load_protocol(protocol)
    class_ids = ids_in_dataset(_classes(model), dataset.classes)
    preprocessing: Preprocessing = model.config.preprocessing  # type: ignore[assignment, union-attr]
    if device is not None:
        model.to(device)
    loader = evaluation_loader(dataset, preprocessing=preprocessing, batch_size=batch_size, workers=workers)
    predictions: list[dict[str, Any]] = []
    seen: set[int | str] = set()
    with evaluating(model), torch.inference_mode():
        for images, targets in loader:
            found = model.detect(images.to(device_of(model)), [target.original_hw for target in targets])  # type: ignore[operator]
            predictions += as_results(found, targets, class_ids)
            seen.update(target.image_id for target in targets)
            if progress is not None:
                progress(len(seen), len(dataset))
    settings = settings_of_model(model, dataset, seen)
    return score(dataset.coco_ground_truth(), predictions, protocol, settings=settings)


def ids_in_dataset(model_classes: Classes, dataset_classes: Classes) -> dict[int, int]:
    """Class index of the model -> id in the data set, by name; by index where the model has the same classes (two may
    share a name) or mere numbers.

    Classes of the model that the data set lacks are left out. Raises ValueError where none is shared.
    """
    if model_classes in (dataset_classes, Classes.numbered(len(dataset_classes))):
        return dict(enumerate(dataset_classes.ids))
    by_name = dict(zip(dataset_classes.names, dataset_classes.ids, strict=True))
    shared = {index: by_name[name] for index, name in enumerate(model_classes.names) if name in by_name}
    if not shared:
        raise ValueError(
            f"expected a model of the data set's classes {list(dataset_classes.names)}, "
            f"got one of {list(model_classes.names)}; evaluate on the data it was trained for, or train with --init"
        )
    return shared


def as_results(
    found: Sequence[Detections], targets: Sequence[Target], class_ids: Mapping[int, int]
) -> list[dict[str, Any]]:
    """COCO results with the data set's image and category ids; classes that it lacks are dropped."""
    results = []
    for detections, target in zip(found, targets, strict=True):
        known = torch.tensor(list(class_ids), device=detections.labels.device)
        kept = detections[torch.isin(detections.labels, known)]
        numbered = replace(kept, image_id=target.image_id, category_ids=())  # category_id = the model's class index
        results += [{**result, "category_id": class_ids[result["category_id"]]} for result in numbered.to_coco()]
    return results


def settings_of_model(model: nn.Module, dataset: DetectionDataset, seen: set[int | str]) -> dict[str, Any]:
    """What the figures of a model must say beside the protocol's settings. seen: ids of the images that were read."""
    classes, preprocessing = _classes(model), model.config.preprocessing  # type: ignore[union-attr]
    class_ids = ids_in_dataset(classes, dataset.classes)
    return {
        "model": str(getattr(model, "name", type(model).__name__)),
        "optimized": model.optimization.to_json() if isinstance(model, OptimizedDetector) else None,
        "split": dataset.split,
        "preprocessing": asdict(preprocessing),  # type: ignore[arg-type]
        "skipped": [str(record.file) for record in dataset.records if record.image_id not in seen],
        "classes_not_in_dataset": [name for index, name in enumerate(classes.names) if index not in class_ids],
    }


def _classes(model: nn.Module) -> Classes:
    classes: Classes = model.classes  # type: ignore[assignment]
    return classes
