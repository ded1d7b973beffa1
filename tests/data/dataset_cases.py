"""Small datasets written to disk, for the tests of this folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from smidgen.data.sample import Sample

CATEGORIES = [{"id": 7, "name": "boat"}, {"id": 3, "name": "car"}]
# image name -> (width, height, [(category id, x, y, w, h)])
IMAGES: dict[str, tuple[int, int, list[tuple[int, float, float, float, float]]]] = {
    "a.png": (64, 48, [(3, 4, 6, 2, 2), (7, 10, 10, 30, 20)]),
    "b.png": (48, 64, [(3, 0, 0, 48, 64)]),
    "c.png": (80, 40, []),
}


def write_image(path: Path, width: int, height: int, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def coco_content() -> dict[str, Any]:
    images, annotations = [], []
    for number, (name, (width, height, boxes)) in enumerate(IMAGES.items(), start=1):
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for category, *bbox in boxes:
            annotations.append(
                {"id": len(annotations), "image_id": number, "category_id": category, "bbox": bbox, "iscrowd": 0}
            )
    return {"images": images, "annotations": annotations, "categories": CATEGORIES}


def write_coco(root: Path, content: dict[str, Any] | None = None, split: str = "train") -> Path:
    """SPLIT/annotations.json with SPLIT/images/."""
    for name, (width, height, _) in IMAGES.items():
        write_image(root / split / "images" / name, width, height)
    (root / split / "annotations.json").write_text(json.dumps(content or coco_content()))
    return root


def write_yolo(root: Path, split: str = "train") -> Path:
    """data.yaml with images/SPLIT and labels/SPLIT; class order is that of the COCO ids."""
    order = {3: 0, 7: 1}
    for name, (width, height, boxes) in IMAGES.items():
        write_image(root / "images" / split / name, width, height)
        lines = [
            f"{order[category]} {(x + w / 2) / width} {(y + h / 2) / height} {w / width} {h / height}"
            for category, x, y, w, h in boxes
        ]
        label = root / "labels" / split / f"{Path(name).stem}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("\n".join(lines))
    (root / "data.yaml").write_text(yaml.safe_dump({"train": f"images/{split}", "names": ["car", "boat"]}))
    return root


def sample_of(
    boxes_xyxy: Sequence[Sequence[float]], size_hw: tuple[int, int], ignore: Sequence[Sequence[float]] = ()
) -> Sample:
    """A sample with random pixels; labels count up."""
    return Sample(
        torch.randint(0, 256, (3, *size_hw), dtype=torch.uint8),
        torch.tensor(boxes_xyxy, dtype=torch.float32).reshape(-1, 4),
        torch.arange(len(boxes_xyxy)),
        torch.tensor(ignore, dtype=torch.float32).reshape(-1, 4),
        image_id=1,
        original_hw=size_hw,
    )
