"""What an evaluation says: figures, the protocol and settings that give them meaning, the detections behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from smidgen.evaluation.class_table import ClassTable
from smidgen.evaluation.plain_text import plain_text
from smidgen.evaluation.rules_in_words import optimization_in_words, rules_in_words, tiles_in_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Figures of one set of detections.

    protocol: name with version. metrics: in the protocol's unit, -1 where there is no such ground truth. per_class: the
    same for each class name. settings: thresholds, size bins (px^2), limits, rules, counts of images and objects, and
    of a model its preprocessing, how it was optimized, the tiles it looked at and the images it could not read.
    predictions: COCO results with the data set's ids. intervals: 95 % bootstrap intervals over images.
    """

    protocol: str
    metrics: Mapping[str, float]
    per_class: Mapping[str, Mapping[str, float]]
    settings: Mapping[str, Any]
    predictions: Sequence[Mapping[str, Any]] = field(repr=False)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Everything but the predictions, ready for json.dumps; "intervals" only where there are any."""
        document: dict[str, Any] = {
            "protocol": self.protocol,
            "metrics": dict(self.metrics),
            "per_class": {name: dict(row) for name, row in self.per_class.items()},
            "settings": dict(self.settings),
        }
        if self.intervals:
            document["intervals"] = {name: list(bounds) for name, bounds in self.intervals.items()}
        return document

    def renderable(self) -> Group:
        """Headline, figures, size bins and classes, for a rich console."""
        return Group(Text(self._headline()), self._figures(), self._sizes(), self._classes())

    def table(self, width: int = 120) -> str:
        """The same as plain text."""
        return plain_text(self.renderable(), width)

    def _headline(self) -> str:
        settings = self.settings
        skipped = f", {len(settings['skipped'])} unreadable (missed)" if settings.get("skipped") else ""
        removed = settings.get("annotations_removed", 0), settings.get("detections_removed", 0)
        without = f" (taken out: {removed[0]} annotations, {removed[1]} detections)" if any(removed) else ""
        dropped = f" ({settings['non_finite']} more are not finite)" if settings.get("non_finite") else ""
        optimized = f"\n{optimization_in_words(settings['optimized'])}" if settings.get("optimized") else ""
        tiles = f"\n{tiles_in_words(settings)}" if settings.get("tiling") else ""
        return (
            f"protocol {self.protocol}: {rules_in_words(settings)}\n"
            f"{settings['images']} images{skipped}, {settings['objects']} objects, "
            f"{settings['ignored_regions']} ignored, {settings['detections']} detections{dropped}{without}"
            f"{optimized}{tiles}"
        )

    def _figures(self) -> Table:
        unit = " (%)" if self._per_cent else ""
        table = Table("figure", f"value{unit}", *(["95 % interval over images"] if self.intervals else []))
        for name, value in self.metrics.items():
            low_high = self.intervals.get(name)
            table.add_row(name, self._shown(value), *([f"{low_high[0]:.3f} to {low_high[1]:.3f}"] if low_high else []))
        return table

    def _sizes(self) -> Table:
        table = Table("size", "square root of area (px)", "objects", "AP", "AR")
        for name, (low, high) in self.settings["areas"].items():
            figures = self.settings["figures_by_area"].get(name, {})
            upper = f"{high**0.5:g}" if high < 1e10 else "any"
            values = [self._shown(self.metrics[figures[kind]]) if kind in figures else "" for kind in ("AP", "AR")]
            table.add_row(
                name, f"{low**0.5:g} to {upper}", str(self.settings["objects_by_area"].get(name, "")), *values
            )
        return table

    def _classes(self) -> ClassTable:
        return ClassTable(self.per_class, self.settings["objects_by_class"], self._shown)

    @property
    def _per_cent(self) -> bool:
        return self.settings.get("rules", {}).get("unit") == "per_cent"

    def _shown(self, value: float) -> str:
        return "-" if value == -1 else f"{value:.2f}" if self._per_cent else f"{value:.4f}"
