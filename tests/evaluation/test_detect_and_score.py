from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from smidgen.data import DetectionDataset, open_dataset
from smidgen.evaluation import evaluate
from smidgen.evaluation.detect_and_score import ids_in_dataset
from smidgen.structures import Classes, Detections, ImageBatch, Preprocessing

BOXES = {11: [10.0, 20.0, 16.0, 8.0], 12: [30.0, 4.0, 6.0, 6.0], 13: [5.0, 5.0, 40.0, 30.0]}
SIZES_WH = {11: (64, 48), 12: (90, 60), 13: (50, 70)}


class Oracle(nn.Module):
    """Finds every object exactly, told apart by the image's size, and adds weak false alarms of both classes."""

    name = "oracle"

    def __init__(self, names: Sequence[str] = ("car", "boat")) -> None:
        super().__init__()
        self.layer = nn.Dropout()
        self.classes = Classes(tuple(names), tuple(range(len(names))))
        self.config = SimpleNamespace(preprocessing=Preprocessing(short_side=32, long_side=64))
        self.seen: list[torch.dtype] = []

    def detect(self, images: ImageBatch, original_hw: Sequence[tuple[int, int]]) -> list[Detections]:
        assert not self.training and not self.layer.training and torch.is_inference_mode_enabled()
        self.seen.append(images.pixels.dtype)
        return [self._found(height, width) for height, width in original_hw]

    def _found(self, height: int, width: int) -> Detections:
        image = next(key for key, size in SIZES_WH.items() if size == (width, height))
        x, y, w, h = BOXES[image]
        boxes = torch.tensor([[x, y, x + w, y + h], [0.0, 0.0, 3.0, 3.0], [0.0, 0.0, 3.0, 3.0]])
        labels = torch.tensor([image % 2, 0, 1])
        ids = tuple(100 + index for index in self.classes.ids)  # of other training data
        return Detections(boxes, torch.tensor([0.9, 0.2, 0.1]), labels, (height, width), category_ids=ids)


@pytest.fixture
def dataset(tmp_path: Path) -> DetectionDataset:
    folder = tmp_path / "val"
    (folder / "images").mkdir(parents=True)
    for image, (width, height) in SIZES_WH.items():
        Image.fromarray(np.full((height, width, 3), image, np.uint8)).save(folder / "images" / f"{image}.png")
    annotations = [
        {"id": i, "image_id": i, "category_id": 7 if i % 2 else 3, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for i, box in BOXES.items()
    ]
    images = [{"id": i, "file_name": f"{i}.png", "width": w, "height": h} for i, (w, h) in SIZES_WH.items()]
    categories = [{"id": 3, "name": "car"}, {"id": 7, "name": "boat"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(document))
    return open_dataset(tmp_path, "val")


def test_exact_detections_are_perfect_with_the_datasets_ids(dataset: DetectionDataset):
    steps: list[tuple[int, int]] = []
    model = Oracle()
    evaluation = evaluate(model, dataset, batch_size=2, progress=lambda done, total: steps.append((done, total)))
    assert evaluation.protocol == "coco@1" and evaluation.metrics["AP"] == pytest.approx(1.0)
    found = {name: row["AP"] for name, row in evaluation.per_class.items()}
    assert found == pytest.approx({"car": 1.0, "boat": 1.0})
    best = [entry for entry in evaluation.predictions if entry["score"] > 0.5]
    assert {entry["image_id"]: (entry["category_id"], entry["bbox"]) for entry in best} == {
        image: (7 if image % 2 else 3, box) for image, box in BOXES.items()
    }
    assert steps == [(2, 3), (3, 3)]
    assert evaluation.settings["preprocessing"]["short_side"] == 32 and evaluation.settings["skipped"] == []
    assert model.seen == [torch.uint8] * 2
    json.dumps(evaluation.to_json())


def test_modes_are_restored_even_after_an_error(dataset: DetectionDataset, monkeypatch: pytest.MonkeyPatch):
    model = Oracle().train()
    model.layer.eval()
    evaluate(model, dataset)
    assert model.training and not model.layer.training
    monkeypatch.setattr(Oracle, "_found", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate(model, dataset)
    assert model.training and not model.layer.training


def test_unreadable_images_are_named_and_count_as_missed(dataset: DetectionDataset):
    dataset.records[1].file.write_bytes(b"")
    evaluation = evaluate(Oracle(), dataset)
    assert [Path(file).name for file in evaluation.settings["skipped"]] == ["12.png"]
    assert evaluation.metrics["AR100"] == pytest.approx(0.5)  # of the cars none is found, of the boats both
    assert "1 unreadable (missed)" in evaluation.table()


def test_classes_that_the_dataset_lacks_are_left_out(dataset: DetectionDataset):
    evaluation = evaluate(Oracle(["plane", "boat"]), dataset)
    assert {entry["category_id"] for entry in evaluation.predictions} == {7}
    assert evaluation.settings["classes_not_in_dataset"] == ["plane"]
    with pytest.raises(ValueError, match="expected a model of the data set's classes"):
        evaluate(Oracle(["plane", "ship"]), dataset)


def test_class_ids_go_by_name_or_by_number():
    dataset = Classes(("car", "boat"), (3, 7))
    assert ids_in_dataset(Classes(("boat", "car"), (0, 1)), dataset) == {0: 7, 1: 3}
    assert ids_in_dataset(Classes.numbered(2), dataset) == {0: 3, 1: 7}
    namesakes = Classes(("car", "car"), (3, 7))
    assert ids_in_dataset(namesakes, namesakes) == {0: 3, 1: 7}
    with pytest.raises(ValueError, match="boat"):
        ids_in_dataset(Classes.numbered(3), dataset)


def test_the_protocol_is_checked_before_any_image_is_read(dataset: DetectionDataset):
    model = Oracle()
    with pytest.raises(ValueError, match="did you mean 'coco'"):
        evaluate(model, dataset, protocol="cocos")
    assert model.seen == []
