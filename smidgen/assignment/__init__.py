"""Who answers for which object: rules `(predictions, targets) -> Matches`, without gradients."""

from smidgen.assignment.hungarian import HungarianAssignment

__all__ = ["HungarianAssignment"]
