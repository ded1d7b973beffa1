"""The stages at which an object can be lost, in the order in which an object passes them, and the rules that decide.

The names of what goes wrong at the end (localization, class) follow Bolya et al., "TIDE: A General Toolbox for
Identifying Object Detection Errors", ECCV 2020, whose 0.1 of overlap separates a bad box from background; the stages
before it ask the evidence that a detector leaves of its own decisions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

STAGES: dict[str, str] = {
    "no_token": "no token at its place",
    "filtered": "filtered by salience",
    "not_queried": "not queried by the cascade",
    "not_selected": "not selected as a query",
    "elsewhere": "its answers went elsewhere",
    "badly_localized": "badly localized",
    "wrong_class": "wrong class",
    "low_score": "score too low",
    "suppressed": "cut by suppression",
    "limit": "cut by the detection limit",
}
"""Stage -> words for people, first stage first."""

FOUND = -1
"""In place of a stage's number: the object was found."""

PLACE_STAGES = ("no_token", "filtered", "not_queried", "not_selected")
"""The stages that decide where work is done, before anything is answered."""


def number_of(stage: str) -> int:
    """Where a stage stands in the order."""
    return list(STAGES).index(stage)


@dataclass(frozen=True, slots=True)
class SizeBins:
    """Bins of object sizes: square root of the box's area in pixels of the image on disk.

    edges_px: where one bin ends and the next begins; an object of exactly 8 px belongs to the bin from 8 px on. The
    first three are AI-TOD's (Wang et al., "Tiny Object Detection in Aerial Images", 2020), 96 px is COCO's.
    """

    names: tuple[str, ...] = ("very tiny", "tiny", "small", "medium", "large")
    edges_px: tuple[float, ...] = (8.0, 16.0, 32.0, 96.0)

    def __post_init__(self) -> None:
        if len(self.names) != len(self.edges_px) + 1 or any(low >= high for low, high in pairwise(self.edges_px)):
            raise ValueError(
                "expected increasing edges of size bins and one name more than edges, got "
                f"edges_px={self.edges_px} and names={self.names}"
            )

    def words(self) -> tuple[str, ...]:
        """Ranges in pixels: "below 8 px", "8 - 16 px", ..., "96 px and more"."""
        if not self.edges_px:
            return ("all",)
        between = (f"{low:g} - {high:g} px" for low, high in pairwise(self.edges_px))
        return (f"below {self.edges_px[0]:g} px", *between, f"{self.edges_px[-1]:g} px and more")


@dataclass(frozen=True, slots=True, kw_only=True)
class LossRules:
    """When an object counts as found, and what each stage needs.

    iou, score_floor, limit: an object is found if a detection of its class with at least this score, among the image's
    `limit` best (None = as many as the detector gives), is matched to it at this IoU. background_iou: boxes that
    overlap an object less say nothing about it. start_iou: a query whose start box, or a region that, overlaps an
    object so much was meant for it. sign: an answer with at least this score shows that the object got as far as an
    answer, however it was treated before; below, boxes lie on objects by chance.
    """

    iou: float = 0.5
    score_floor: float = 0.3
    limit: int | None = None
    background_iou: float = 0.1
    start_iou: float = 0.5
    sign: float = 0.3
    sizes: SizeBins = field(default_factory=SizeBins)

    def __post_init__(self) -> None:
        if not 0 < self.background_iou <= self.iou <= 1:
            raise ValueError(
                "expected 0 < background_iou <= iou <= 1 to say what a right box is, got "
                f"background_iou={self.background_iou} and iou={self.iou}"
            )
        if not 0 <= self.score_floor <= 1 or (self.limit is not None and self.limit < 1):
            raise ValueError(
                "expected a score floor in [0, 1] and a limit of at least one detection, got "
                f"score_floor={self.score_floor} and limit={self.limit}"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
