"""Loss of objects with examples: where each object died, and crops of the worst of every stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from smidgen.analysis.loss_of_objects import trace_objects
from smidgen.analysis.loss_stages import STAGES, LossRules
from smidgen.analysis.lost_objects_gallery import LostObjectsGallery, lost_objects_gallery
from smidgen.analysis.object_fates import LostObjects
from smidgen.analysis.observation import Observation


@dataclass(frozen=True, slots=True)
class TracedLosses:
    """lost: fates of all objects. gallery: the worst of each stage. Those of several batches add up."""

    lost: LostObjects
    gallery: LostObjectsGallery

    def __add__(self, other: TracedLosses) -> TracedLosses:
        return TracedLosses(self.lost + other.lost, self.gallery + other.gallery)

    def to_json(self) -> dict[str, Any]:
        """Plain values: the table of stages and sizes, and the objects that are shown."""
        return {**self.lost.to_json(), "examples": self.gallery.to_json()}

    def stages_by_loss(self) -> list[tuple[str, int]]:
        """Stages at which something was lost, and how much, most first."""
        counts = zip(STAGES, self.lost.table.sum(axis=1).tolist(), strict=True)
        return sorted((item for item in counts if item[1]), key=lambda item: -item[1])


def trace_losses(observation: Observation, rules: LossRules, class_names: Sequence[str]) -> TracedLosses:
    """Of one batch."""
    lost = trace_objects(observation, rules)
    return TracedLosses(lost, lost_objects_gallery(observation, lost, class_names))
