"""A COCO data set of three images with bright squares, for verbs that run a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def square_dataset(root: Path) -> Path:
    """val/annotations.json with val/images, categories red (4) and blue (9)."""
    (root / "val" / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, 4):
        pixels = np.random.default_rng(number).integers(0, 60, (64, 80, 3), dtype=np.uint8)
        for left, side, category in ((8, 10, 4), (40, 20, 9)):
            pixels[10 : 10 + side, left : left + side, 0 if category == 4 else 2] = 255
            box = {"bbox": [left, 10, side, side], "area": side**2, "iscrowd": 0, "category_id": category}
            annotations.append({"id": len(annotations) + 1, "image_id": number, **box})
        Image.fromarray(pixels).save(root / "val" / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 80, "height": 64})
    categories = [{"id": 4, "name": "red"}, {"id": 9, "name": "blue"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (root / "val" / "annotations.json").write_text(json.dumps(document))
    return root
