"""Detections as a pandas table, a row each; an extra: smidgen[pandas]."""

from __future__ import annotations

from typing import Any

from smidgen.structures.classes import Classes
from smidgen.structures.detections import Detections
from smidgen.structures.interchange.sorted_detections import labels_of, size_of_image, sorted_detections

CORNERS = ["x0", "y0", "x1", "y1"]
NEEDED = ("image_id", "file", *CORNERS, "score", "category_id")


def to_data_frame(detections: Detections) -> Any:
    """A pandas.DataFrame, best detection first: image_id, file, image_height, image_width, x0 ... y1 (pixels), score,
    category_id, category. Tables of several images may be joined by pandas.concat.
    """
    try:
        import pandas
    except ImportError as error:
        raise ModuleNotFoundError("a table of detections needs an extra: pip install 'smidgen[pandas]'") from error
    labels, (height, width) = detections.labels.tolist(), detections.image_hw
    names, ids = detections.class_names, detections.category_ids
    frame = pandas.DataFrame(detections.boxes_xyxy.detach().cpu().double().numpy(), columns=CORNERS)
    frame["score"] = detections.scores.detach().cpu().double().numpy()
    frame["category_id"] = [ids[label] if ids else label for label in labels]
    frame["category"] = [names[label] if names else str(label) for label in labels]
    for column, value in (
        ("image_width", width), ("image_height", height), ("file", detections.file), ("image_id", detections.image_id),
    ):  # fmt: skip
        frame.insert(0, column, value)
    return frame


def from_data_frame(frame: Any, classes: Classes, image_hw: tuple[int, int] | None = None) -> Detections:
    """The rows of one image. image_hw: None = as the table says.

    Raises ValueError for missing columns, rows of several images, unknown categories, and a size that is neither given
    nor written.
    """
    missing = [name for name in NEEDED if name not in frame]
    if missing:
        raise ValueError(f"expected the columns {', '.join(NEEDED)}; {', '.join(missing)} not among {list(frame)}")
    images = frame["image_id"].unique().tolist()
    if len(images) > 1:
        raise ValueError(f"expected rows of one image, got those of {len(images)}; group the table by image_id first")
    first = frame.iloc[0] if len(frame) else {"image_id": 0, "file": ""}
    written = (first["image_height"], first["image_width"]) if "image_height" in first else None
    return sorted_detections(
        frame[CORNERS].to_numpy().tolist(),
        frame["score"].tolist(),
        labels_of(frame["category_id"].tolist(), classes),
        classes,
        size_of_image(image_hw, written),
        image_id=images[0] if images else 0,
        file=str(first["file"]),
    )
