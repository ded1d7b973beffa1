"""Who answers for which object: rules `(predictions, targets) -> Matches`, without gradients."""

from smidgen.assignment.hungarian import HungarianAssignment
from smidgen.assignment.quality_one_to_many import QualityOneToMany
from smidgen.boxes.solvers import register_solver, solver_called

__all__ = ["HungarianAssignment", "QualityOneToMany", "register_solver", "solver_called"]
