"""What a reader had to mend, drop or leave out in a dataset, counted by kind, so that nothing vanishes silently."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Severity = Literal["error", "warning"]

# kind of note -> (severity, what it means). A box or an image that is lost is an error; what was mended is a warning.
NOTE_KINDS: MappingProxyType[str, tuple[Severity, str]] = MappingProxyType(
    {
        "missing_image": ("error", "images are annotated but not there, and are left out"),
        "unreadable_image": ("error", "images cannot be read and are left out"),
        "duplicate_image": ("error", "images have an id that was there already, and are left out"),
        "inverted_box": ("error", "boxes end before they begin, and are dropped"),
        "degenerate_box": ("error", "boxes have no area or are not numbers, and are dropped"),
        "outside_box": ("error", "boxes lie outside their image and are dropped"),
        "unknown_category": ("error", "boxes have a category that is not declared, and are dropped"),
        "unknown_image": ("error", "boxes belong to an image that is not declared, and are dropped"),
        "malformed_label": ("error", "annotations cannot be understood and are dropped"),
        "clipped_box": ("warning", "boxes reach more than 1 px over the border and are clipped"),
        "missing_labels": ("warning", "images have no label file and count as images without objects"),
    }
)


@dataclass(frozen=True, slots=True)
class Note:
    """One finding. kind: a key of NOTE_KINDS; file: where it was found; detail: what exactly."""

    kind: str
    file: str
    detail: str = ""

    @property
    def severity(self) -> Severity:
        return NOTE_KINDS[self.kind][0]


@dataclass(frozen=True, slots=True)
class DatasetNotes:
    """All findings of one reading."""

    notes: tuple[Note, ...] = ()

    @property
    def errors(self) -> tuple[Note, ...]:
        """Findings by which something was lost."""
        return tuple(note for note in self.notes if note.severity == "error")

    @property
    def warnings(self) -> tuple[Note, ...]:
        """Findings that were mended."""
        return tuple(note for note in self.notes if note.severity == "warning")

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings by kind."""
        return dict(Counter(note.kind for note in self.notes))

    def lines(self) -> list[str]:
        """One sentence per kind of finding, with its first example."""
        return [f"{count} {NOTE_KINDS[kind][1]} (first: {self._first(kind)})" for kind, count in self.counts.items()]

    def _first(self, kind: str) -> str:
        note = next(note for note in self.notes if note.kind == kind)
        return f"{note.file}: {note.detail}" if note.detail else note.file

    def __len__(self) -> int:
        return len(self.notes)
