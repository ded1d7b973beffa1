"""Detections of the package supervision, for its annotators, trackers and zones; an extra: smidgen[supervision]."""

from __future__ import annotations

from typing import Any

import numpy as np

from smidgen.structures.classes import Classes
from smidgen.structures.detections import Detections
from smidgen.structures.interchange.sorted_detections import size_of_image, sorted_detections


def to_supervision(detections: Detections) -> Any:
    """A supervision.Detections: class_id is the class index, data holds class names and the dataset's ids, metadata
    the image's size and file.
    """
    try:
        import supervision
    except ImportError as error:
        raise ModuleNotFoundError("supervision is an extra: pip install 'smidgen[supervision]'") from error
    labels = detections.labels.detach().cpu().numpy()
    names = detections.class_names or [str(index) for index in range(int(labels.max(initial=-1)) + 1)]
    ids = detections.category_ids or range(len(names))
    return supervision.Detections(
        xyxy=detections.boxes_xyxy.detach().cpu().float().numpy(),
        confidence=detections.scores.detach().cpu().float().numpy(),
        class_id=labels.astype(int),
        data={"class_name": np.array(names, dtype=str)[labels], "category_id": np.array(ids, dtype=int)[labels]},
        metadata={"image_hw": detections.image_hw, "image_id": detections.image_id, "file": detections.file},
    )


def from_supervision(found: Any, classes: Classes, image_hw: tuple[int, int] | None = None) -> Detections:
    """Detections of supervision's, whose class_id is the class index; without confidence every score is 1.

    image_hw: None = as the metadata say. Raises ValueError for classes that there are not, or an unknown size.
    """
    labels = np.zeros(len(found), dtype=int) if found.class_id is None else np.asarray(found.class_id, dtype=int)
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(classes):
        raise ValueError(
            f"expected class_id in 0..{len(classes) - 1}, got {labels.min()}..{labels.max()}; pass their classes"
        )
    scores = np.ones(len(found)) if found.confidence is None else found.confidence
    metadata = getattr(found, "metadata", {})
    return sorted_detections(
        found.xyxy.tolist(),
        np.asarray(scores, dtype=float).tolist(),
        labels.tolist(),
        classes,
        size_of_image(image_hw, metadata.get("image_hw")),
        image_id=metadata.get("image_id", 0),
        file=metadata.get("file", ""),
    )
