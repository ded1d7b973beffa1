"""Everything that is counted about a split, in one value."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from smidgen.data.dataset import DetectionDataset
from smidgen.data.statistics.class_balance import ClassBalance, class_balance
from smidgen.data.statistics.crowding import Crowding, crowding
from smidgen.data.statistics.images import CountStatistics, ImageStatistics, count_statistics, image_statistics
from smidgen.data.statistics.object_table import ObjectTable
from smidgen.data.statistics.placement import Placement, placement
from smidgen.data.statistics.shapes import ShapeStatistics, shape_statistics
from smidgen.data.statistics.sizes import SizeStatistics, size_statistics
from smidgen.structures import Preprocessing


@dataclass(frozen=True, slots=True)
class DatasetStatistics:
    """objects: without ignore_regions. on_disk, at_input: sizes in px of the image file and of the network input."""

    images: ImageStatistics
    objects: int
    ignore_regions: int
    per_image: CountStatistics
    on_disk: SizeStatistics
    at_input: SizeStatistics
    shapes: ShapeStatistics
    classes: ClassBalance
    crowding: Crowding
    placement: Placement

    def to_json(self) -> dict[str, Any]:
        """Plain values; None where there is nothing to measure."""
        return asdict(self)


def describe(dataset: DetectionDataset, preprocessing: Preprocessing) -> DatasetStatistics:
    """Count a split from its records, without opening an image. preprocessing: how the network would see it."""
    table = ObjectTable.of(dataset)
    return DatasetStatistics(
        image_statistics(table),
        len(table),
        sum(len(record.ignore_xyxy) for record in dataset.records),
        count_statistics(table),
        size_statistics(table),
        size_statistics(table.at_input(preprocessing)),
        shape_statistics(table),
        class_balance(table),
        crowding(table),
        placement(table),
    )
