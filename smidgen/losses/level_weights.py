"""How much each level of a dense detector weighs in training: coarser ones more, because finer ones have more answers.

Yang et al., "QueryDet: Cascaded Sparse Query for Accelerating High-Resolution Small Object Detection", CVPR 2022,
section 3.2 (beta_l of equations 4 and 5). The paper says linear from 1 to 3 (COCO) or 2.6 (VisDrone); the released
configurations hold other numbers.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

LevelWeighting: TypeAlias = Literal["released_coco", "released_visdrone", "linear", "linear_visdrone", "uniform"]

RELEASED = {
    "released_coco": (1.0, 1.4, 2.1, 2.5, 2.9, 3.2),
    "released_visdrone": (1.0, 1.4, 1.8, 2.2, 2.6, 2.6),
}
LAST_OF_LINEAR = {"linear": 3.0, "linear_visdrone": 2.6, "uniform": 1.0}


def level_weights(weighting: LevelWeighting | tuple[float, ...], num_levels: int) -> tuple[float, ...]:
    """A factor for each level, finest first. weighting: a preset's name, or the factors themselves.

    "released_..." are for the six levels P2..P7. "linear" grows from 1 to 3, "linear_visdrone" to 2.6 (the paper's
    words; the paper's unpublished factors for P3..P7 are taken to be these), "uniform" is 1 everywhere.
    """
    if isinstance(weighting, str) and weighting in LAST_OF_LINEAR:
        return _linear(LAST_OF_LINEAR[weighting], num_levels)
    if isinstance(weighting, str) and weighting not in RELEASED:
        raise ValueError(
            f"expected level weights by name out of {', '.join([*RELEASED, *LAST_OF_LINEAR])}, got {weighting!r}"
        )
    factors = RELEASED[weighting] if isinstance(weighting, str) else weighting
    if len(factors) != num_levels:
        raise ValueError(
            f"expected one weight for each of {num_levels} levels, got {factors}; "
            'for other levels than P2..P7 use "linear" or "uniform", or write the factors out'
        )
    return factors


def _linear(last: float, num_levels: int) -> tuple[float, ...]:
    steps = max(num_levels - 1, 1)
    return tuple(1.0 + (last - 1.0) * level / steps for level in range(num_levels))
