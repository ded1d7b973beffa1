"""How large objects are where a network sees them: decides on which level of a pyramid queries should start."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from smidgen.data.dataset import DetectionDataset
from smidgen.data.statistics.object_table import ObjectTable
from smidgen.structures import Preprocessing


def object_sides_px(dataset: DetectionDataset, preprocessing: Preprocessing) -> npt.NDArray[np.float64]:
    """Square root of the area of every object's box, in pixels of the network input, in the dataset's order.

    Read from the records alone, without ignore regions; the size is that of evaluation, before any augmentation.
    """
    return ObjectTable.of(dataset).at_input(preprocessing).sides_px
