"""A detector of ours as SAHI's DetectionModel, for pipelines built on its slicing; an extra: smidgen[sahi].

Akyon et al., "Slicing Aided Hyper Inference and Fine-tuning for Small Object Detection", ICIP 2022. SAHI's class is
known only where it is installed, so ours is made when it is asked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from smidgen.data.geometry import resize_pixels
from smidgen.inference.loaded_images import model_preprocessing
from smidgen.structures import Detections, ImageBatch


def sahi_detection_model(model: nn.Module, *, score: float = 0.3, device: str = "cpu") -> Any:
    """A sahi.models.base.DetectionModel, for sahi.predict.get_prediction, get_sliced_prediction and the like.

    score: SAHI's confidence_threshold. Category ids are the dataset's own. Raises ModuleNotFoundError without SAHI.
    """
    try:
        from sahi.models.base import DetectionModel
    except ImportError as error:
        raise ModuleNotFoundError("SAHI is an extra: pip install 'smidgen[sahi]'") from error
    classes: Any = model.classes

    class SmidgenDetectionModel(DetectionModel):  # type: ignore[misc, unused-ignore]
        """Every batch of slices is one batch of the network."""

        def set_model(self, model: Any, **_: Any) -> None:
            self.model = model.to(self.device).eval()
            self.category_mapping = {str(id): name for id, name in zip(classes.ids, classes.names, strict=True)}

        def perform_inference(self, image: npt.NDArray[np.uint8]) -> None:
            self.perform_batch_inference([image])

        def perform_batch_inference(self, images: list[npt.NDArray[np.uint8]]) -> None:
            self._original_predictions = detect_arrays(self.model, images, self.device)

        def _create_object_prediction_list_from_original_predictions(
            self, shift_amount_list: Any = None, full_shape_list: Any = None
        ) -> None:
            answers = self._original_predictions
            shifts, shapes = _of_each(shift_amount_list, len(answers)), _of_each(full_shape_list, len(answers))
            self._object_prediction_list_per_image = [
                _object_predictions(answer.above(self.confidence_threshold), shift or [0, 0], shape)
                for answer, shift, shape in zip(answers, shifts, shapes, strict=True)
            ]

    return SmidgenDetectionModel(model=model, device=device, confidence_threshold=score)


def detect_arrays(
    model: nn.Module, images: list[npt.NDArray[np.uint8]], device: str | torch.device = "cpu"
) -> list[Detections]:
    """Detections of RGB images, H x W x 3 each, in pixels of each, as one batch."""
    preprocessing = model_preprocessing(model)
    pixels = [torch.from_numpy(np.array(image[..., :3], order="C")).permute(2, 0, 1) for image in images]
    sizes = [(int(one.shape[1]), int(one.shape[2])) for one in pixels]
    resized = [resize_pixels(one, preprocessing.resized_hw(*size)) for one, size in zip(pixels, sizes, strict=True)]
    batch = ImageBatch.collate(resized, preprocessing.pad_multiple).to(device)
    with torch.inference_mode():
        found: list[Detections] = model.detect(batch, sizes)  # type: ignore[operator]
    return found


def _of_each(value: Any, count: int) -> list[Any]:
    """SAHI passes one entry, a list of them, or nothing."""
    if not value:
        return [None] * count
    return list(value) if isinstance(value[0], list | tuple) else [value] * count


def _object_predictions(found: Detections, shift: list[int], full_shape: list[int] | None) -> list[Any]:
    from sahi.prediction import ObjectPrediction

    return [
        ObjectPrediction(
            bbox=box,
            category_id=found.category_ids[label],
            category_name=found.class_names[label],
            score=score,
            shift_amount=shift,
            full_shape=full_shape,
        )
        for box, score, label in zip(
            found.boxes_xyxy.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        )
    ]
