"""A small data set with every type of error, judged once."""

from __future__ import annotations

from functools import cache

import numpy as np

from smidgen.analysis.error_analysis import ErrorAnalysis, analyze_errors
from smidgen.evaluation import load_protocol
from smidgen.evaluation.annotations import GroundTruth, Results, read_ground_truth, read_results


def error_case(images: int = 8, classes: int = 3, seed: int = 0) -> tuple[GroundTruth, Results]:
    rng = np.random.default_rng(seed)
    annotations, predictions = [], []
    for image in range(images):
        for box in rng.uniform([0, 0, 4, 4], [400, 400, 60, 60], (classes * 3, 4)).tolist():
            category = int(rng.integers(classes))
            annotations.append({"image_id": image, "category_id": category, "bbox": box})
            for _ in range(int(rng.integers(0, 4))):
                moved = (np.array(box) + rng.normal(0, [3, 3, 2, 2])).clip(1).tolist()
                taken_for = int(rng.integers(classes)) if rng.random() < 0.3 else category
                predictions.append(
                    {"image_id": image, "category_id": taken_for, "bbox": moved, "score": float(rng.random())}
                )
    document = {
        "images": [{"id": image} for image in range(images)],
        "annotations": annotations,
        "categories": [{"id": index, "name": f"class {index}"} for index in range(classes)],
    }
    truth = read_ground_truth(document)
    return truth, read_results(predictions, truth)


@cache
def analysis() -> ErrorAnalysis:
    return analyze_errors(*error_case(), load_protocol("aitod"), noise_seeds=2)


@cache
def empty_analysis() -> ErrorAnalysis:
    document = {"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    truth = read_ground_truth(document)
    return analyze_errors(truth, read_results([], truth), load_protocol("coco"), noise_seeds=1)
