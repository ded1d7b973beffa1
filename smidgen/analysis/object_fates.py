"""What became of every object, row by row, and the table that follows: stages at which objects were lost, by size."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from smidgen.analysis.loss_stages import FOUND, PLACE_STAGES, STAGES, LossRules
from smidgen.checkpoints.atomic_write import write_atomically

COLUMNS = ("image_id", "class", "stage", "size_px", "box", "best_iou", "best_score", "best_class", "best_box")


@dataclass(frozen=True, slots=True)
class ObjectFates:
    """One row per labeled object; boxes in xyxy pixels of the image on disk.

    labels: class indices of the model. stages: numbers of `STAGES`, `FOUND` for those that were found. failed_places:
    per row which of `PLACE_STAGES` the object failed, fatal or not. answer_*: the raw answer that tells the story: its
    box, overlap with the object (0 = there is no answer near), score and class of that score (-1 = none).
    """

    image_ids: tuple[int | str, ...]
    boxes_xyxy: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    stages: npt.NDArray[np.int64]
    failed_places: npt.NDArray[np.bool_]
    answer_boxes_xyxy: npt.NDArray[np.float64]
    answer_ious: npt.NDArray[np.float64]
    answer_scores: npt.NDArray[np.float64]
    answer_labels: npt.NDArray[np.int64]

    @staticmethod
    def join(parts: Sequence[ObjectFates]) -> ObjectFates:
        """All rows of at least one part, in order."""
        ids = tuple(identity for part in parts for identity in part.image_ids)
        names = [one.name for one in fields(ObjectFates)][1:]
        return ObjectFates(ids, *(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    @property
    def sizes_px(self) -> npt.NDArray[np.float64]:
        """Square roots of the boxes' areas."""
        sides = (self.boxes_xyxy[:, 2:] - self.boxes_xyxy[:, :2]).clip(min=0)
        sizes: npt.NDArray[np.float64] = np.sqrt(sides.prod(axis=1))
        return sizes

    def rows(self, class_names: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
        """Plain values by the names of `COLUMNS`; the stage of a found object is "found"."""
        stages, sizes = list(STAGES), self.sizes_px

        def name(label: int) -> str | int | None:
            return None if label < 0 else class_names[label] if class_names else label

        for row, identity in enumerate(self.image_ids):
            stage = int(self.stages[row])
            yield {
                "image_id": identity,
                "class": name(int(self.labels[row])),
                "stage": "found" if stage == FOUND else stages[stage],
                "size_px": round(float(sizes[row]), 2),
                "box": self.boxes_xyxy[row].round(2).tolist(),
                "best_iou": round(float(self.answer_ious[row]), 4),
                "best_score": round(float(self.answer_scores[row]), 4),
                "best_class": name(int(self.answer_labels[row])),
                "best_box": self.answer_boxes_xyxy[row].round(2).tolist() if self.answer_ious[row] > 0 else None,
            }

    def write_csv(self, path: Path, class_names: Sequence[str] = ()) -> Path:
        """A line for each object, boxes as "x0 y0 x1 y1"; written whole."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in self.rows(class_names):
            boxes = {key: " ".join(f"{value:g}" for value in row[key] or ()) for key in ("box", "best_box")}
            writer.writerow({**row, **boxes})
        write_atomically(path, lambda partial: partial.write_text(text.getvalue(), encoding="utf-8") and None)
        return path


@dataclass(frozen=True, slots=True)
class LostObjects:
    """Fates of all objects of some images; those of several batches add up.

    stages: that the detector has; at another none can be lost. images: how many were traced.
    """

    rules: LossRules
    stages: tuple[str, ...]
    images: int
    fates: ObjectFates

    @property
    def table(self) -> npt.NDArray[np.int64]:
        """Missed objects by stage (rows, all of `STAGES`) and size bin."""
        missed = self.fates.stages != FOUND
        return self._by_bin(self.fates.stages[missed], missed, len(STAGES))

    @property
    def objects(self) -> npt.NDArray[np.int64]:
        """All objects by size bin."""
        return np.bincount(self._bins(), minlength=self._num_bins())

    @property
    def found(self) -> npt.NDArray[np.int64]:
        """Found objects by size bin."""
        return np.bincount(self._bins()[self.fates.stages == FOUND], minlength=self._num_bins())

    @property
    def found_despite(self) -> npt.NDArray[np.int64]:
        """By stage of `PLACE_STAGES`, objects that were found although they failed it."""
        failed = self.fates.failed_places & (self.fates.stages == FOUND)[:, None]
        return failed.sum(axis=0)

    def __add__(self, other: LostObjects) -> LostObjects:
        if self.rules != other.rules or self.stages != other.stages:
            raise ValueError(
                f"expected objects of one detector traced by the same rules to add, got {self.rules} with the stages "
                f"{self.stages}, and {other.rules} with {other.stages}"
            )
        joined = ObjectFates.join([self.fates, other.fates])
        return LostObjects(self.rules, self.stages, self.images + other.images, joined)

    def to_json(self) -> dict[str, Any]:
        """Plain values: per stage the missed objects of each size bin, null where the detector has no such stage."""
        despite = dict(zip(PLACE_STAGES, self.found_despite.tolist(), strict=True))
        found = self.found
        return {
            "images": self.images,
            "objects": int(self.objects.sum()),
            "found": int(found.sum()),
            "missed": int(self.table.sum()),
            "sizes": list(self.rules.sizes.names),
            "objects_by_size": self.objects.tolist(),
            "found_by_size": found.tolist(),
            "missed_by_size": self.table.sum(axis=0).tolist(),
            "stages": [
                {
                    "stage": stage,
                    "words": words,
                    "missed_by_size": counts if stage in self.stages else None,
                    "missed": sum(counts) if stage in self.stages else None,
                    "found_despite": despite.get(stage) if stage in self.stages else None,
                }
                for (stage, words), counts in zip(STAGES.items(), self.table.tolist(), strict=True)
            ],
            "settings": self.rules.to_json(),
        }

    def _num_bins(self) -> int:
        return len(self.rules.sizes.names)

    def _bins(self) -> npt.NDArray[np.int64]:
        # A float32 box of 8 px that was scaled to the input and back is 8 px.
        return np.searchsorted(self.rules.sizes.edges_px, self.fates.sizes_px + 1e-4, side="right")

    def _by_bin(self, numbers: npt.NDArray[np.int64], which: npt.NDArray[np.bool_], rows: int) -> npt.NDArray[np.int64]:
        flat = numbers * self._num_bins() + self._bins()[which]
        return np.bincount(flat, minlength=rows * self._num_bins()).reshape(rows, -1)
