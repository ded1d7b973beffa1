"""What a training did, as a report: curves, tables with their protocol, predictions beside the truth, samples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from smidgen.analysis.charts import Series, line_chart
from smidgen.analysis.report import Figure, Report, Section, picture_source, render_report
from smidgen.data import DetectionDataset, Record, read_image
from smidgen.evaluation import Evaluation
from smidgen.inference import draw_detections
from smidgen.structures import Classes, Detections

SHOWN_SCORE = 0.3


def training_report(
    run: Path,
    dataset: DetectionDataset,
    evaluation: Evaluation,
    *,
    title: str,
    lead: str,
    facts: Sequence[tuple[str, str]],
    story: Sequence[str],
    pictures: int = 6,
) -> str:
    """The page for a finished run folder and its evaluation on `dataset`. story: paragraphs on what was done."""
    sections = [
        Section(title="What happened", paragraphs=story),
        _curves(_lines(run / "metrics.jsonl")),
        _figures(evaluation),
        _comparisons(dataset, evaluation, pictures),
        _samples(run / "train_samples"),
    ]
    return render_report(Report(title=title, lead=lead, facts=facts, sections=sections))


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def _curves(lines: Sequence[Mapping[str, Any]]) -> Section:
    training = [line for line in lines if line["kind"] == "train"]
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    loss = Series("loss (sum of all terms)", [(line["seconds"] / 60, line["loss"]) for line in training])
    metrics = [
        Series(name, [(line["seconds"] / 60, line["metrics"][name]) for line in evaluations])
        for name in ("AP50", "AP")
        if evaluations and name in evaluations[-1]["metrics"]
    ]
    charts = [
        line_chart([loss], horizontal="minutes of training", label="training loss over time"),
        line_chart(
            metrics, horizontal="minutes of training", label="average precision on the validation images over time"
        ),
    ]
    words = "Left, what the training lowers; right, average precision on images that it never saw."
    return Section(title="Curves", paragraphs=[words], charts=charts)


def _figures(evaluation: Evaluation) -> Section:
    settings = evaluation.settings
    thresholds, limits = settings["iou_thresholds"], settings["detection_limits"]
    words = (
        f"Protocol {evaluation.protocol}: IoU {thresholds[0]:g} to {thresholds[-1]:g}, at most {limits[-1]} "
        f"detections per image and class; {settings['images']} images with {settings['objects']} objects. "
        "Fractions; a dash where there is no such object. Intervals: 95 % bootstrap over images."
    )
    return Section(
        title="Figures", paragraphs=[words], tables=[_metrics(evaluation), _sizes(evaluation), _classes(evaluation)]
    )


def _metrics(evaluation: Evaluation) -> list[list[str]]:
    def interval(name: str) -> str:
        bounds = evaluation.intervals.get(name)
        return f"{_shown(bounds[0])} – {_shown(bounds[1])}" if bounds else ""  # noqa: RUF001

    rows = [
        [name, _shown(value), interval(name)] for name, value in evaluation.metrics.items() if not name.startswith("AR")
    ]
    return [["figure", "value", "interval"], *rows]


def _sizes(evaluation: Evaluation) -> list[list[str]]:
    rows = [["size of objects", "objects", "AP"]]
    for name, (low, high) in evaluation.settings["areas"].items():
        figure = evaluation.settings["figures_by_area"].get(name, {}).get("AP")
        span = f": {low**0.5:g} to {high**0.5:g} px" if high < 1e10 else f": above {low**0.5:g} px" if low else ""
        value = _shown(evaluation.metrics[figure]) if figure else ""
        rows.append([f"{name}{span}", str(evaluation.settings["objects_by_area"].get(name, "")), value])
    return rows


def _classes(evaluation: Evaluation) -> list[list[str]]:
    objects = evaluation.settings["objects_by_class"]
    rows = [
        [name, str(objects.get(name, "")), _shown(row.get("AP", -1.0)), _shown(row.get("AP50", -1.0))]
        for name, row in evaluation.per_class.items()
    ]
    return [["class", "objects", "AP", "AP50"], *rows]


def _shown(value: float) -> str:
    return "–" if value == -1 else f"{value:.3f}"  # noqa: RUF001


def _comparisons(dataset: DetectionDataset, evaluation: Evaluation, pictures: int) -> Section:
    found: dict[Any, list[Mapping[str, Any]]] = {}
    for prediction in evaluation.predictions:
        if prediction["score"] >= SHOWN_SCORE:
            found.setdefault(prediction["image_id"], []).append(prediction)
    step = max(1, len(dataset) // pictures)
    rows = [
        _comparison(record, found.get(record.image_id, []), dataset.classes)
        for record in list(dataset.records)[: pictures * step : step]
    ]
    words = (
        "Validation images, taken at even distances, not chosen: first the labels, then what was detected with a score "
        f"of at least {SHOWN_SCORE}. Boxes are drawn just outside the objects; the strip below counts the classes."
    )
    return Section(title="Truth and predictions", paragraphs=[words], pictures=rows)


def _comparison(record: Record, predictions: Sequence[Mapping[str, Any]], classes: Classes) -> list[Figure]:
    picture = Image.fromarray(read_image(record.file, record.size_hw).permute(1, 2, 0).contiguous().numpy())
    truth = draw_detections(picture, _truth(record, classes))
    drawn = draw_detections(picture, _detections(record, predictions, classes))
    return [
        Figure(picture_source(truth), f"{record.file.name}: {len(record)} labeled objects"),
        Figure(picture_source(drawn), f"{len(predictions)} detections"),
    ]


def _truth(record: Record, classes: Classes) -> Detections:
    return Detections(
        boxes_xyxy=torch.from_numpy(record.boxes_xyxy),
        scores=torch.ones(len(record)),
        labels=torch.from_numpy(record.labels),
        image_hw=record.size_hw,
        class_names=classes.names,
    )


def _detections(record: Record, predictions: Sequence[Mapping[str, Any]], classes: Classes) -> Detections:
    boxes = torch.tensor([prediction["bbox"] for prediction in predictions]).reshape(-1, 4)
    labels = [classes.ids.index(prediction["category_id"]) for prediction in predictions]
    return Detections(
        boxes_xyxy=torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1),
        scores=torch.tensor([prediction["score"] for prediction in predictions]),
        labels=torch.tensor(labels, dtype=torch.long),
        image_hw=record.size_hw,
        class_names=classes.names,
    )


def _samples(folder: Path) -> Section:
    files = sorted([*folder.glob("*.png"), *folder.glob("*.jpg")]) if folder.is_dir() else []
    figures = [Figure(picture_source(file), file.stem.replace("_", " ")) for file in files]
    words = "The first batches as the network saw them, after augmentation. When training goes wrong, look here first."
    return Section(title="Augmented samples", paragraphs=[words], pictures=[figures] if figures else [])
