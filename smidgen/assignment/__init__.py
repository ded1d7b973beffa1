"""Who answers for which object: rules `(predictions, targets) -> Matches`, without gradients."""

from smidgen.assignment.hungarian import HungarianAssignment
from smidgen.assignment.quality_one_to_many import QualityOneToMany

__all__ = ["HungarianAssignment", "QualityOneToMany"]
