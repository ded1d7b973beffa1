"""A protocol is data: thresholds, size bins, detection limits, rules and figures, named and versioned.

What published numbers silently differ in is written out: over what the classes are averaged, whether a limit counts
detections of a class or of the whole image, what an ignored region does, whether a crowd flag counts for anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
import yaml
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter, ValidationError

from smidgen.evaluation.detection_order import LimitScope
from smidgen.evaluation.precision_curve import PrecisionRule

FOLDER = Path(__file__).parent / "protocols"
MOST_THRESHOLDS = 1000

Measure = Literal[
    "average_precision",
    "average_recall",
    "olrp",
    "olrp_localization",
    "olrp_false_positives",
    "olrp_false_negatives",
    "log_average_miss_rate",
    "absent",
]
# Measures that are no mean over thresholds: their figures name one.
AT_ONE_THRESHOLD = tuple(name for name in get_args(Measure) if not name.startswith("average") and name != "absent")
ClassMean = Literal["classes", "images"]
RegionRule = Literal["crowd", "remove"]
CrowdRule = Literal["ignored", "objects"]
TieRule = Literal["in_order", "as_numpy_sorts"]
RecallBase = Literal["objects", "objects_and_ignored"]
Unit = Literal["fraction", "per_cent"]


@dataclass(frozen=True, kw_only=True)
class Spacing:
    """`count` evenly spaced values from first to last, equal to numpy.linspace to the last bit."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    first: float
    last: float
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_THRESHOLDS:
            raise ValueError(f"expected a count of 1 to {MOST_THRESHOLDS}, got {self.count}")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number of a protocol.

    iou: its threshold (None = the mean over all). area: name of a size bin, limit: one of the detection limits,
    class_mean: what is averaged over (None = the protocol's default for each). The measure "absent" is always -1: an
    official tool prints the name without value.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    measure: Measure
    iou: float | None = None
    area: str | None = None
    limit: int | None = None
    class_mean: ClassMean | None = None


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How detections are judged. Every rule's default is COCO's.

    iou_thresholds: increasing, in (0, 1]. areas: square pixels of the ground truth, both ends inclusive; the first is
    the figures' default. detection_limits: increasing; the last is the figures' default.

    score_floor: detections below it are left out (None = all count).
    limit_per: a limit counts the detections of one class in an image, or all of an image before its classes are split.
    precision: read from its monotone envelope at 101 levels of recall, or at every level that is reached (the area), or
    the plain area under the curve as it is (see `evaluation.precision_curve`).
    class_mean: every class counts once, or once for each image that holds it, so that frequent classes weigh more.
    ignored_regions: a region about no class in particular is a crowd of every class (a detection that matches nothing
    better and lies in it by the IoU threshold's share counts for nothing), or removes beforehand all objects and
    detections of which it covers half, on rounded pixels.
    crowds: objects flagged as crowd (iscrowd) are to be ignored, or are objects like any other.
    least_height_px: objects that are not higher are to be ignored, as crowds are (None = all are judged).
    recall_over: what recall is a share of: the objects, or these and the ignored ones of the class.
    equal_scores: detections of equal score stand in the order of the images and of the file, or in the one that numpy's
    unstable sort leaves (see `evaluation.equal_scores`).
    unit: of the figures; -1 is absent in both.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    version: int
    iou_thresholds: tuple[float, ...] | Spacing
    areas: Mapping[str, tuple[float, float]]
    detection_limits: tuple[int, ...]
    figures: Mapping[str, Figure]
    score_floor: float | None = None
    limit_per: LimitScope = "image_and_class"
    precision: PrecisionRule = "101_points"
    class_mean: ClassMean = "classes"
    ignored_regions: RegionRule = "crowd"
    crowds: CrowdRule = "ignored"
    least_height_px: float | None = None
    recall_over: RecallBase = "objects"
    equal_scores: TieRule = "in_order"
    unit: Unit = "fraction"

    def __post_init__(self) -> None:
        object.__setattr__(self, "areas", MappingProxyType(dict(self.areas)))
        object.__setattr__(self, "figures", MappingProxyType(dict(self.figures)))
        _check_ranges(self)
        for name, figure in self.figures.items():
            _check_figure(self, name, figure)

    @property
    def label(self) -> str:
        """Name with version, as in "coco@1"."""
        return f"{self.name}@{self.version}"

    @cached_property
    def thresholds(self) -> Float[NDArray[np.float64], " T"]:
        """IoU thresholds, increasing."""
        given = self.iou_thresholds
        return np.linspace(given.first, given.last, given.count) if isinstance(given, Spacing) else np.array(given)

    def threshold_index(self, iou: float) -> int:
        """Where this threshold stands; -1 if it is none of the protocol's."""
        near = np.flatnonzero(np.isclose(self.thresholds, iou, rtol=0, atol=1e-9))
        return int(near[0]) if len(near) else -1

    def area_of(self, figure: Figure) -> str:
        """Name of the figure's size bin."""
        return figure.area if figure.area is not None else next(iter(self.areas))

    def limit_of(self, figure: Figure) -> int:
        """The figure's detection limit."""
        return figure.limit if figure.limit is not None else self.detection_limits[-1]

    def class_mean_of(self, figure: Figure) -> ClassMean:
        """What the figure is averaged over."""
        return figure.class_mean if figure.class_mean is not None else self.class_mean

    def settings(self) -> dict[str, Any]:
        """What a table of figures must say to be understood."""
        return {
            "protocol": self.name,
            "version": self.version,
            "iou_thresholds": [round(float(value), 6) for value in self.thresholds],
            "areas": {name: list(bounds) for name, bounds in self.areas.items()},
            "detection_limits": list(self.detection_limits),
            "score_floor": self.score_floor,
            "rules": {rule: getattr(self, rule) for rule in RULES if rule != "score_floor"},
        }


# Fields of a protocol that have a default.
RULES = tuple(field.name for field in fields(Protocol) if field.default is not MISSING)


def load_protocol(which: str | Path | Protocol) -> Protocol:
    """A protocol by name ("coco"), by name and version ("coco@1"), or from one's own YAML file.

    Raises ValueError where there is no such protocol (naming the nearest) or the file does not describe one.
    """
    if isinstance(which, Protocol):
        return which
    if str(which).endswith((".yaml", ".yml")):
        return _read(Path(which))
    name, _, version = str(which).partition("@")
    file = FOLDER / f"{name}.yaml"
    protocol = _read(file) if name.isidentifier() and file.is_file() else None
    if protocol is None or (version and version != str(protocol.version)):
        known = list_protocols()
        near = get_close_matches(str(which), [*known, *(label.partition("@")[0] for label in known)], n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"expected a protocol of {', '.join(known)}, or a .yaml file, got {str(which)!r}{hint}")
    return protocol


def list_protocols() -> list[str]:
    """Names with versions of the protocols that come with the package."""
    return [_read(file).label for file in sorted(FOLDER.glob("*.yaml"))]


def _read(file: Path) -> Protocol:
    if not file.is_file():
        raise ValueError(f"expected a protocol file, but {file} does not exist")
    try:
        return TypeAdapter(Protocol).validate_python(yaml.safe_load(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        reasons = "; ".join(_reason(detail) for detail in error.errors())
        raise ValueError(f"{file} does not describe a protocol: {reasons}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} does not describe a protocol: {error}") from error


def _reason(detail: Mapping[str, Any]) -> str:
    """One of pydantic's complaints: where, what, and for an unknown field the nearest that there is."""
    path = [str(part) for part in detail["loc"]]
    if detail["type"] != "unexpected_keyword_argument":
        message = str(detail["msg"]).removeprefix("Value error, ")
        return f"{'.'.join(path)}: {message}" if path else message
    owner = {"figures": Figure, "iou_thresholds": Spacing}.get(path[0], Protocol)
    known = [field.name for field in fields(owner)]
    near = get_close_matches(path[-1], known, n=1)
    return f"{'.'.join(path)}: unknown" + (f", did you mean {near[0]!r}?" if near else f"; expected {', '.join(known)}")


def _check_ranges(protocol: Protocol) -> None:
    thresholds, limits = protocol.thresholds, protocol.detection_limits
    if not len(thresholds) or not np.all(np.diff(thresholds) > 0) or not (thresholds[0] > 0 and thresholds[-1] <= 1):
        raise ValueError(f"expected increasing iou_thresholds in (0, 1], got {thresholds.tolist()}")
    if not limits or limits[0] < 1 or sorted(set(limits)) != list(limits):
        raise ValueError(f"expected increasing detection_limits of at least 1, got {list(limits)}")
    for rule in ("score_floor", "least_height_px"):
        value = getattr(protocol, rule)
        if value is not None and not np.isfinite(value):
            raise ValueError(f"expected a finite {rule}, got {value}")
    if not protocol.figures:
        raise ValueError("expected at least one of figures, got none")
    if not protocol.areas or any(not 0 <= low < high for low, high in protocol.areas.values()):
        raise ValueError(f"expected areas of [low, high] with 0 <= low < high in px^2, got {dict(protocol.areas)}")


def _check_figure(protocol: Protocol, name: str, figure: Figure) -> None:
    if figure.area is not None and figure.area not in protocol.areas:
        raise ValueError(f"figure {name}: expected an area of {list(protocol.areas)}, got {figure.area!r}")
    if figure.limit is not None and figure.limit not in protocol.detection_limits:
        raise ValueError(f"figure {name}: expected a limit of {list(protocol.detection_limits)}, got {figure.limit}")
    if figure.iou is not None and protocol.threshold_index(figure.iou) < 0:
        raise ValueError(f"figure {name}: {figure.iou} is none of iou_thresholds {protocol.thresholds.tolist()}")
    if figure.measure in AT_ONE_THRESHOLD and figure.iou is None:
        raise ValueError(f"figure {name}: {figure.measure} needs one iou threshold")
