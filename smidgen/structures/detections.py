"""The answer for one image, in pixels of the image on disk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Detections:
    """Boxes with scores and labels, best first.

    boxes_xyxy: pixels of the original image. labels: contiguous class indices. image_hw: size of the original image.
    class_names, category_ids: per class index, the name and the dataset's own id.
    """

    boxes_xyxy: Float[Tensor, "D 4"]
    scores: Float[Tensor, " D"]
    labels: Int[Tensor, " D"]
    image_hw: tuple[int, int]
    image_id: int | str = 0
    file: str = ""
    class_names: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()

    def __len__(self) -> int:
        return self.scores.shape[0]

    def __getitem__(self, which: slice | Bool[Tensor, " D"] | Int[Tensor, " d"]) -> Detections:
        """The chosen detections; everything else stays."""
        return replace(self, boxes_xyxy=self.boxes_xyxy[which], scores=self.scores[which], labels=self.labels[which])

    def above(self, score: float) -> Detections:
        """Detections with at least this score."""
        return self[self.scores >= score]

    def to_coco(self) -> list[dict[str, Any]]:
        """One COCO result per detection: image_id, category_id (the dataset's), bbox [x, y, w, h] in pixels, score."""
        boxes = self.boxes_xyxy.detach().cpu().double()
        boxes_xywh = boxes.clone()
        boxes_xywh[:, 2:] -= boxes[:, :2]
        results = []
        for box, score, label in zip(boxes_xywh.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True):
            result = {
                "image_id": self.image_id,
                "category_id": self.category_ids[label] if self.category_ids else label,
                "bbox": [round(value, 3) for value in box],
                "score": round(score, 6),
            }
            results.append(result)
        return results
