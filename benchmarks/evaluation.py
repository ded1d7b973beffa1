"""How fast figures and intervals are, against pycocotools, on images full of detections as AI-TOD has them.

    python benchmarks/evaluation.py [--quick]

Prints seconds of one run each on this machine, their ratio, and the largest difference of any AP. Both sides start
from the same lists in memory. --quick: 12 images in place of 50.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from smidgen.evaluation import Protocol, bootstrap_intervals, load_protocol, score

CLASSES, OBJECTS, DETECTIONS, SIDE_PX = 8, 60, 500, 800


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    images = 12 if parser.parse_args().quick else 50
    ground_truth, predictions = crowded_images(images)
    protocol = load_protocol("aitod")
    ours, evaluation = timed(lambda: score(ground_truth, predictions, protocol))
    theirs, precision = timed(lambda: pycocotools_precision(ground_truth, predictions, protocol))
    resampling, intervals = timed(lambda: bootstrap_intervals(ground_truth, predictions, protocol))
    difference = max(abs(evaluation.metrics[name] - value) for name, value in precision.items())
    low, high = intervals["AP"]
    print(
        f"{images} images x {OBJECTS} objects x {DETECTIONS} detections, {CLASSES} classes, {protocol.label}, one run"
    )
    print(f"pycocotools            {theirs:8.2f} s")
    print(f"smidgen.score          {ours:8.2f} s   {theirs / ours:6.1f} x as fast, figures differ by {difference:.1e}")
    print(f"200 bootstrap samples  {resampling:8.2f} s   AP {evaluation.metrics['AP']:.4f} in {low:.4f} to {high:.4f}")


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def crowded_images(images: int, seed: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Small objects; detections are objects moved by a little, and false alarms."""
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    for image in range(1, images + 1):
        boxes = np.column_stack([rng.uniform(0, SIDE_PX, (OBJECTS, 2)), rng.uniform(4, 40, (OBJECTS, 2))])
        labels = rng.integers(1, CLASSES + 1, OBJECTS)
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
            entry = {"id": len(annotations) + 1, "image_id": image, "category_id": label, "bbox": box}
            annotations.append({**entry, "area": box[2] * box[3], "iscrowd": int(rng.random() < 0.03)})
        source = rng.integers(0, OBJECTS, DETECTIONS)
        found = boxes[source] + rng.normal(0, 1, (DETECTIONS, 4)) * boxes[source, 2:].mean(1, keepdims=True) * 0.15
        found[:, 2:] = found[:, 2:].clip(1)
        for box, label, value in zip(found.tolist(), labels[source].tolist(), rng.random(DETECTIONS), strict=True):
            predictions.append({"image_id": image, "category_id": label, "bbox": box, "score": float(value)})
    return {
        "images": [{"id": image, "width": SIDE_PX, "height": SIDE_PX} for image in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": index, "name": str(index)} for index in range(1, CLASSES + 1)],
    }, predictions


def pycocotools_precision(
    ground_truth: dict[str, Any], predictions: list[dict[str, Any]], protocol: Protocol
) -> dict[str, float]:
    """AP of every size bin."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = ground_truth
        truth.createIndex()
        peer = COCOeval(truth, truth.loadRes(predictions), "bbox")
        peer.params.areaRng = [list(bounds) for bounds in protocol.areas.values()]
        peer.params.areaRngLbl = list(protocol.areas)
        peer.params.maxDets = list(protocol.detection_limits)
        peer.evaluate()
        peer.accumulate()
    values = peer.eval["precision"][..., -1]
    names = ("AP", "APvt", "APt", "APs", "APm")
    return {
        name: float(area[area > -1].mean()) if (area > -1).any() else -1.0
        for name, area in zip(names, np.moveaxis(values, -1, 0), strict=True)
    }


if __name__ == "__main__":
    main()
