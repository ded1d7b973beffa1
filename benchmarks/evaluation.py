"""How fast figures and intervals are, against pycocotools and faster-coco-eval, on images full of detections.

    python benchmarks/evaluation.py [--images 500] [--detections 1500] [--objects 150] [--peer-images 25]
        [--bootstrap 0] [--quick]

AI-TOD's protocol: up to 1500 detections an image. CPU seconds (of all threads), and the largest difference of any AP.
All start from the same lists in memory; peers print nothing. pycocotools takes minutes for 500 images, so it judges the
first --peer-images of them, beside the others; all images are judged by those who can. --quick: 12 images.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from measuring import Recording, parser, recording

from smidgen.evaluation import Protocol, bootstrap_intervals, load_protocol, score

CLASSES, SIDE_PX = 8, 800
NAMES = ("AP", "APvt", "APt", "APs", "APm")

Lists = tuple[dict[str, Any], list[dict[str, Any]]]


def main() -> None:
    options = _options()
    with recording(__file__, options) as record:
        everything = crowded_images(options.images, options.detections, options.objects)
        peer_images = min(options.peer_images, options.images)
        of_each = f"{options.objects} objects and {options.detections} detections each"
        part = first_images(*everything, peer_images)
        compare(record, f"{peer_images} images, {of_each}", part, "pycocotools")
        if peer_images < options.images:
            compare(record, f"{options.images} images, {of_each}", everything, "faster-coco-eval")
        if options.bootstrap:
            time_bootstrap(record, part, options.bootstrap)


def compare(record: Recording, title: str, lists: Lists, against: str) -> None:
    """Time `against`, faster-coco-eval and smidgen; figures of the peers must be smidgen's."""
    protocol = load_protocol("aitod")
    calls: dict[str, Callable[[], dict[str, float]]] = {
        "smidgen": lambda: dict(score(*lists, without_olrp(protocol)).metrics),
        "smidgen with oLRP": lambda: dict(score(*lists, protocol).metrics),
    }
    calls = peers(record, lists, protocol, {against, "faster-coco-eval"}) | calls
    measured = record.measure(title, calls, against=against if against in calls else "smidgen")
    ours = measured.answers["smidgen"]
    for peer in set(calls) - {"smidgen", "smidgen with oLRP"}:
        figures = measured.answers[peer]
        record.count(f"{peer} and smidgen apart", AP=max(abs(ours[name] - figures[name]) for name in NAMES))


def peers(
    record: Recording, lists: Lists, protocol: Protocol, wanted: set[str]
) -> dict[str, Callable[[], dict[str, float]]]:
    calls: dict[str, Callable[[], dict[str, float]]] = {}
    data, judge = (record.peer(f"pycocotools.{module}") for module in ("coco", "cocoeval"))
    if "pycocotools" in wanted and data and judge:
        calls["pycocotools"] = lambda: peer_precision(data.COCO, judge.COCOeval, *lists, protocol)
    if "faster-coco-eval" in wanted and (faster := record.peer("faster_coco_eval")):
        calls["faster-coco-eval"] = lambda: peer_precision(faster.COCO, faster.COCOeval_faster, *lists, protocol)
    return calls


def without_olrp(protocol: Protocol) -> Protocol:
    figures = {name: figure for name, figure in protocol.figures.items() if "olrp" not in figure.measure}
    return replace(protocol, figures=figures)


def time_bootstrap(record: Recording, lists: Lists, samples: int) -> None:
    protocol = load_protocol("aitod")
    call = {"bootstrap": lambda: bootstrap_intervals(*lists, protocol, samples=samples, metrics=("AP", "AP50"))}
    measured = record.measure(f"{samples} bootstrap samples", call, against="bootstrap", warm_ups=1)
    low, high = measured.answers["bootstrap"]["AP"]
    record.count(f"{samples} bootstrap samples", AP_low=low, AP_high=high)


def _options() -> argparse.Namespace:
    options = parser(__doc__, rounds=3, images=(500, 12), peer_images=(25, 12))
    for name, value in {"detections": 1500, "objects": 150, "bootstrap": 0}.items():
        options.add_argument(f"--{name}", type=int, default=value)
    return options.parse_args()


def first_images(
    ground_truth: dict[str, Any], predictions: list[dict[str, Any]], count: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The same for the images 1 to count."""
    annotations = [entry for entry in ground_truth["annotations"] if entry["image_id"] <= count]
    part = {**ground_truth, "images": ground_truth["images"][:count], "annotations": annotations}
    return part, [entry for entry in predictions if entry["image_id"] <= count]


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


def peer_precision(
    data: Any, judge: Any, ground_truth: dict[str, Any], predictions: list[dict[str, Any]], protocol: Protocol
) -> dict[str, float]:
    """AP of every size bin by pycocotools' classes, or by others that are used like them."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = data()
        truth.dataset = ground_truth
        truth.createIndex()
        peer = judge(truth, truth.loadRes(predictions), "bbox")
        peer.params.areaRng = [list(bounds) for bounds in protocol.areas.values()]
        peer.params.areaRngLbl = list(protocol.areas)
        peer.params.maxDets = list(protocol.detection_limits)
        peer.evaluate()
        peer.accumulate()
    values = peer.eval["precision"][..., -1]
    return {
        name: float(area[area > -1].mean()) if (area > -1).any() else -1.0
        for name, area in zip(NAMES, np.moveaxis(values, -1, 0), strict=True)
    }


if __name__ == "__main__":
    main()
