"""What a dataset's statistics advise before anything is trained, with the recall that every choice allows."""

from __future__ import annotations

from smidgen.analysis.dataset_advice.advice import Advice, Choice
from smidgen.analysis.dataset_advice.dense import anchor_advice, suppression_advice
from smidgen.analysis.dataset_advice.queries import budget_advice, level_advice
from smidgen.analysis.dataset_advice.resolution import input_size_advice, stride_advice, tile_advice
from smidgen.data import DetectionDataset
from smidgen.data.statistics.object_table import ObjectTable
from smidgen.structures import Preprocessing

__all__ = ["Advice", "Choice", "advise"]


def advise(dataset: DetectionDataset, preprocessing: Preprocessing) -> tuple[Advice, ...]:
    """One piece of advice for each choice; none where there are no objects.

    preprocessing: the size that the other choices are judged at, while the first asks whether it should be another.
    """
    table = ObjectTable.of(dataset)
    if len(table) == 0:
        return ()
    seen = table.at_input(preprocessing)
    return (
        input_size_advice(table, preprocessing),
        stride_advice(seen),
        tile_advice(table, preprocessing),
        budget_advice(seen),
        level_advice(seen),
        suppression_advice(seen),
        anchor_advice(seen),
    )
