"""Random data sets with what makes evaluators differ: crowds, ties, integer boxes, empty images, odd ids."""

from __future__ import annotations

from typing import Any

import numpy as np


def random_case(seed: int, *, images: int = 6, classes: int = 3) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rng = np.random.default_rng(seed)
    image_ids = (rng.permutation(images) * 7 + 3).tolist()
    category_ids = (np.arange(classes) * 4 + 1).tolist()
    annotations, predictions = [], []
    for image in image_ids:
        for _ in range(int(rng.integers(0, 8))):
            box = _integer_box(rng)
            category = int(rng.choice(category_ids[:-1] if classes > 1 else category_ids))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": category,
                    "bbox": box,
                    "area": float(box[2] * box[3]) * float(rng.choice([1.0, 0.7])),
                    "iscrowd": int(rng.random() < 0.15),
                    "ignore": int(rng.random() < 0.15),
                }
            )
            for _ in range(int(rng.integers(0, 3))):
                predictions.append(_prediction(rng, image, category, _moved(rng, box)))
        for _ in range(int(rng.integers(0, 5))):
            predictions.append(_prediction(rng, image, int(rng.choice(category_ids)), _integer_box(rng)))
    ground_truth = {
        "images": [{"id": image, "width": 100, "height": 100} for image in image_ids],
        "annotations": annotations,
        "categories": [{"id": index, "name": f"class {index}"} for index in category_ids],
    }
    return ground_truth, predictions


def _integer_box(rng: np.random.Generator) -> list[float]:
    x, y = rng.integers(0, 60, 2)
    width, height = rng.choice([2, 4, 8, 10, 16, 20, 32, 40], 2)
    return [float(x), float(y), float(width), float(height)]


def _moved(rng: np.random.Generator, box: list[float]) -> list[float]:
    shift = rng.choice([-2.0, -1.0, 0.0, 0.0, 0.25, 1.0], 4)
    return [box[0] + shift[0], box[1] + shift[1], max(1.0, box[2] + shift[2]), max(1.0, box[3] + shift[3])]


def _prediction(rng: np.random.Generator, image: int, category: int, box: list[float]) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": box, "score": float(rng.integers(1, 10)) / 10}
