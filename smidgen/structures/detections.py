"""The answer for one image, in pixels of the image on disk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor

from smidgen.structures.classes import Classes


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

    def to_geojson(self, transform: Any = None, crs: str | None = None, project: Any = None) -> dict[str, Any]:
        """A GeoJSON FeatureCollection, in pixels or on the map: see `interchange.geojson.feature_collection`."""
        from smidgen.structures.interchange.geojson import feature_collection

        return feature_collection(self, transform, crs, project)

    def to_pandas(self) -> Any:
        """A table with a row for each detection: see `interchange.data_frame.to_data_frame`."""
        from smidgen.structures.interchange.data_frame import to_data_frame

        return to_data_frame(self)

    def to_supervision(self) -> Any:
        """A supervision.Detections: see `interchange.supervision_detections.to_supervision`."""
        from smidgen.structures.interchange.supervision_detections import to_supervision

        return to_supervision(self)

    @staticmethod
    def from_coco(results: Any, classes: Classes, image_hw: tuple[int, int]) -> Detections:
        """Of the COCO results of one image: see `interchange.coco_results.from_coco`."""
        from smidgen.structures.interchange.coco_results import from_coco

        return from_coco(results, classes, image_hw)

    @staticmethod
    def from_geojson(document: Any, classes: Classes, image_hw: tuple[int, int] | None = None) -> Detections:
        """Of what `to_geojson` wrote: see `interchange.geojson.from_feature_collection`."""
        from smidgen.structures.interchange.geojson import from_feature_collection

        return from_feature_collection(document, classes, image_hw)

    @staticmethod
    def from_pandas(frame: Any, classes: Classes, image_hw: tuple[int, int] | None = None) -> Detections:
        """Of a table as `to_pandas` makes it: see `interchange.data_frame.from_data_frame`."""
        from smidgen.structures.interchange.data_frame import from_data_frame

        return from_data_frame(frame, classes, image_hw)

    @staticmethod
    def from_supervision(found: Any, classes: Classes, image_hw: tuple[int, int] | None = None) -> Detections:
        """Of a supervision.Detections: see `interchange.supervision_detections.from_supervision`."""
        from smidgen.structures.interchange.supervision_detections import from_supervision

        return from_supervision(found, classes, image_hw)
