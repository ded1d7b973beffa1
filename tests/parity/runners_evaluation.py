"""Runners for the protocols: official evaluators on the same files, and VisDrone's rule for cutting labels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from golden import Case

from smidgen.data.visdrone import split_objects
from smidgen.evaluation import Evaluation, score

CATEGORIES = range(1, 11)


def run_detection_metrics(case: Case) -> None:
    ground_truth, predictions = (
        json.loads((case.folder / name).read_text()) for name in ("ground_truth.json", "predictions.json")
    )
    for protocol, expected in case.description["expected"]["metrics"].items():
        metrics = score(ground_truth, predictions, protocol).metrics
        for name, value in expected.items():
            _compare(case, f"{protocol}/{name}", metrics[name], value)


def run_visdrone_toolkit(case: Case) -> None:
    files = sorted((case.folder / "annotations").glob("*.txt"))
    rows = [_rows(file) for file in files]
    found = [_rows(case.folder / "detections" / file.name) for file in files]
    evaluation = _visdrone(rows, found, case.config["image_sizes"])
    expected = case.description["expected"]
    for name, value in expected["metrics"].items():
        _compare(case, name, evaluation.metrics[name], value)
    _compare(case, "per_class_AP", _by_class(evaluation), expected["per_class_AP"])


def run_visdrone_eval(case: Case) -> None:
    count = sum(name.startswith("gt") for name in case.inputs)
    rows, found = ([case.inputs[f"{part}{index}"].numpy() for index in range(count)] for part in ("gt", "det"))
    evaluation = _visdrone(rows, found, [(case.config["H"], case.config["W"])] * count)
    for name in ("AP", "AP50", "AP75", "AR1", "AR10", "AR100", "AR500"):
        case.compare(name.lower(), torch.tensor(evaluation.metrics[name]))
    case.compare("ap_classwise", torch.tensor(_by_class(evaluation)))
    case.compare("ap_unweighted_mean_over_present_classes", torch.tensor(evaluation.metrics["AP_plain"]))
    images = torch.tensor(list(evaluation.settings["images_by_class"].values()))
    case.compare("images_per_class", images, exact=True)
    case.assert_all_compared()


def run_visdrone_split(case: Case) -> None:
    rows = case.inputs["labels"].numpy()
    chosen, patch, boxes = split_objects(rows[:, :6], (case.config["H"], case.config["W"]), range(1, 12))
    split = np.column_stack([chosen, patch, rows[chosen, 5], boxes])
    case.compare("split", torch.from_numpy(split), exact=True)
    case.assert_all_compared()


def _compare(case: Case, name: str, actual: float | list[float], expected: float | list[float]) -> None:
    as_tensor = torch.tensor(expected, dtype=torch.float64)
    case.compare(name, torch.tensor(actual, dtype=torch.float64), expected=as_tensor)


def _rows(file: Any) -> np.ndarray:
    text = file.read_text() if file.is_file() else ""
    return np.array([line.split(",")[:8] for line in text.split()], dtype=np.float64).reshape(-1, 8)


def _visdrone(rows: list[np.ndarray], found: list[np.ndarray], sizes_hw: Iterable[tuple[int, int]]) -> Evaluation:
    """VisDrone's rows as a COCO document: category 0 is an ignored region, score 0 a crowd, 11 is left out."""
    annotations = [
        {"image_id": image, "category_id": int(row[5]), "bbox": row[:4].tolist(), "iscrowd": int(row[4] == 0)}
        for image, of_image in enumerate(rows)
        for row in of_image
        if row[5] <= CATEGORIES[-1]
    ]
    others = {int(row[5]) for of_image in found for row in of_image}
    ground_truth = {
        "images": [{"id": image, "height": hw[0], "width": hw[1]} for image, hw in enumerate(sizes_hw)],
        "annotations": annotations,
        "categories": [{"id": index, "name": str(index)} for index in sorted({*CATEGORIES} | others)],
    }
    predictions = [
        {"image_id": image, "category_id": int(row[5]), "bbox": row[:4].tolist(), "score": float(row[4])}
        for image, of_image in enumerate(found)
        for row in of_image
    ]
    return score(ground_truth, predictions, "visdrone")


def _by_class(evaluation: Evaluation) -> list[float]:
    """AP of the ten classes; the official tool writes 0 for a class that no image holds."""
    of_class: Mapping[str, Mapping[str, float]] = evaluation.per_class
    return [max(0.0, of_class[str(index)]["AP"]) for index in CATEGORIES]
