"""A protocol is data: thresholds, size bins, detection limits and the figures to report, with a name and a version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import yaml
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter, ValidationError

FOLDER = Path(__file__).parent / "protocols"

Measure = Literal[
    "average_precision",
    "average_recall",
    "olrp",
    "olrp_localization",
    "olrp_false_positives",
    "olrp_false_negatives",
    "absent",
]


@dataclass(frozen=True, kw_only=True)
class Spacing:
    """`count` evenly spaced values from first to last, equal to numpy.linspace to the last bit."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    first: float
    last: float
    count: int


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number of a protocol.

    iou: its threshold (None = the mean over all). area: name of a size bin, limit: detections per image and class
    (None = the protocol's default). The measure "absent" is always -1: an official tool prints the name without value.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    measure: Measure
    iou: float | None = None
    area: str | None = None
    limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How detections are judged.

    iou_thresholds: increasing, in (0, 1]. areas: square pixels of the ground truth, both ends inclusive; the first is
    the figures' default. detection_limits: per image and class, increasing; the last is the figures' default.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    version: int
    iou_thresholds: tuple[float, ...] | Spacing
    areas: Mapping[str, tuple[float, float]]
    detection_limits: tuple[int, ...]
    figures: Mapping[str, Figure]

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
        """The figure's detections per image and class."""
        return figure.limit if figure.limit is not None else self.detection_limits[-1]

    def settings(self) -> dict[str, Any]:
        """What a table of figures must say to be understood."""
        return {
            "iou_thresholds": [round(float(value), 6) for value in self.thresholds],
            "areas": {name: list(bounds) for name, bounds in self.areas.items()},
            "detection_limits": list(self.detection_limits),
        }


def load_protocol(which: str | Path | Protocol) -> Protocol:
    """A protocol by name ("coco"), by name and version ("coco@1"), or from one's own YAML file.

    Raises ValueError where there is no such protocol (naming the nearest) or the file does not describe one.
    """
    if isinstance(which, Protocol):
        return which
    if str(which).endswith((".yaml", ".yml")):
        return _read(Path(which))
    name, _, version = str(which).partition("@")
    known = list_protocols()
    bundled = {label.partition("@")[0]: label for label in known}
    if name not in bundled or (version and f"{name}@{version}" not in known):
        near = get_close_matches(str(which), [*known, *bundled], n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"expected a protocol of {', '.join(known)}, or a .yaml file, got {str(which)!r}{hint}")
    return _read(FOLDER / f"{name}.yaml")


def list_protocols() -> list[str]:
    """Names with versions of the protocols that come with the package."""
    return [_read(file).label for file in sorted(FOLDER.glob("*.yaml"))]


def _read(file: Path) -> Protocol:
    if not file.is_file():
        raise ValueError(f"expected a protocol file, but {file} does not exist")
    try:
        return TypeAdapter(Protocol).validate_python(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} does not describe a protocol: {error}") from error


def _check_ranges(protocol: Protocol) -> None:
    thresholds, limits = protocol.thresholds, protocol.detection_limits
    if not len(thresholds) or np.any(np.diff(thresholds) <= 0) or thresholds[0] <= 0 or thresholds[-1] > 1:
        raise ValueError(f"expected increasing iou_thresholds in (0, 1], got {thresholds.tolist()}")
    if not limits or limits[0] < 1 or sorted(set(limits)) != list(limits):
        raise ValueError(f"expected increasing detection_limits of at least 1, got {list(limits)}")
    if not protocol.areas or any(not 0 <= low < high for low, high in protocol.areas.values()):
        raise ValueError(f"expected areas of [low, high] with 0 <= low < high in px^2, got {dict(protocol.areas)}")


def _check_figure(protocol: Protocol, name: str, figure: Figure) -> None:
    if figure.area is not None and figure.area not in protocol.areas:
        raise ValueError(f"figure {name}: expected an area of {list(protocol.areas)}, got {figure.area!r}")
    if figure.limit is not None and figure.limit not in protocol.detection_limits:
        raise ValueError(f"figure {name}: expected a limit of {list(protocol.detection_limits)}, got {figure.limit}")
    if figure.iou is not None and protocol.threshold_index(figure.iou) < 0:
        raise ValueError(f"figure {name}: {figure.iou} is none of iou_thresholds {protocol.thresholds.tolist()}")
    if figure.measure.startswith("olrp") and figure.iou is None:
        raise ValueError(f"figure {name}: {figure.measure} needs one iou threshold")
