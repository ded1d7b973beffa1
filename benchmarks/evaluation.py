"""How fast figures and intervals are, against pycocotools, on images full of detections as AI-TOD has them.

    python benchmarks/evaluation.py [--images 500] [--detections 1500] [--objects 150] [--peer-images 25]
        [--bootstrap 0] [--quick]

Prints CPU seconds (of all threads) of one run each, their ratio by image, and the largest difference of any AP. All
start from the same lists in memory. pycocotools takes minutes for 500 images, so it judges the first --peer-images of
them (0 = all); smidgen judges all, and those again to compare figures. --quick: 12 images, all of them by both.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from smidgen.evaluation import Protocol, bootstrap_intervals, load_protocol, score

CLASSES, SIDE_PX = 8, 800


def main() -> None:
    options = _options()
    ground_truth, predictions = crowded_images(options.images, options.detections, options.objects)
    protocol = load_protocol("aitod")
    without_olrp = replace(
        protocol, figures={name: figure for name, figure in protocol.figures.items() if "olrp" not in figure.measure}
    )
    print(
        f"{options.images} images x {options.objects} objects x {options.detections} detections, {CLASSES} classes, "
        f"{protocol.label}, one run, CPU seconds"
    )
    ours, _ = timed(lambda: score(ground_truth, predictions, without_olrp))
    with_olrp, _ = timed(lambda: score(ground_truth, predictions, protocol))
    peer_images = min(options.peer_images or options.images, options.images)
    part = first_images(ground_truth, predictions, peer_images)
    theirs, precision = timed(lambda: pycocotools_precision(*part, protocol))
    same = score(*part, without_olrp).metrics
    difference = max(abs(same[name] - value) for name, value in precision.items())
    ratio = (theirs / peer_images) / (ours / options.images)
    print(f"pycocotools              {theirs:8.2f} s for {peer_images} images")
    print(
        f"smidgen.score, no oLRP   {ours:8.2f} s   {ratio:6.1f} x as fast by image, figures differ by {difference:.1e}"
    )
    print(f"smidgen.score, oLRP too  {with_olrp:8.2f} s   oLRP costs {with_olrp - ours:.2f} s")
    if options.bootstrap:
        resampling, intervals = timed(
            lambda: bootstrap_intervals(*part, protocol, samples=options.bootstrap, metrics=("AP", "AP50"))
        )
        low, high = intervals["AP"]
        print(
            f"{options.bootstrap} bootstrap samples    {resampling:8.2f} s for {peer_images} images, "
            f"AP {same['AP']:.4f} in {low:.4f} to {high:.4f}"
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"images": 500, "detections": 1500, "objects": 150, "peer-images": 25, "bootstrap": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.images, options.peer_images = 12, 0
    return options


def first_images(
    ground_truth: dict[str, Any], predictions: list[dict[str, Any]], count: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The same for the images 1 to count."""
    annotations = [entry for entry in ground_truth["annotations"] if entry["image_id"] <= count]
    part = {**ground_truth, "images": ground_truth["images"][:count], "annotations": annotations}
    return part, [entry for entry in predictions if entry["image_id"] <= count]


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def crowded_images(
    images: int, detections: int, objects: int, seed: int = 0
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Small objects; detections are objects moved by a little, and false alarms."""
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    for image in range(1, images + 1):
        boxes = np.column_stack([rng.uniform(0, SIDE_PX, (objects, 2)), rng.uniform(4, 40, (objects, 2))])
        labels = rng.integers(1, CLASSES + 1, objects)
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
            entry = {"id": len(annotations) + 1, "image_id": image, "category_id": label, "bbox": box}
            annotations.append({**entry, "area": box[2] * box[3], "iscrowd": int(rng.random() < 0.03)})
        source = rng.integers(0, objects, detections)
        found = boxes[source] + rng.normal(0, 1, (detections, 4)) * boxes[source, 2:].mean(1, keepdims=True) * 0.15
        found[:, 2:] = found[:, 2:].clip(1)
        for box, label, value in zip(found.tolist(), labels[source].tolist(), rng.random(detections), strict=True):
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
