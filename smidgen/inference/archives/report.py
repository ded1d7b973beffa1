"""What became of an archive: counts, the files without an answer by name, and how fast this start was."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from smidgen.inference.archives.attempts import FOLDER as ATTEMPTS
from smidgen.inference.archives.manifest import Manifest
from smidgen.inference.archives.parquet_shards import DETECTIONS, IMAGES, Outcome, all_rows, finished_shards
from smidgen.inference.archives.storage import Storage

REPORT = "report.json"


@dataclass(slots=True)
class Tally:
    """What this start has done so far. planned: images it had before it. tiles, looked_at: where a guide chose among
    tiles. failures: shards given up, and why.
    """

    planned: int
    images: int = 0
    detections: int = 0
    tiles: int = 0
    looked_at: int = 0
    failures: list[str] = field(default_factory=list)
    _start: float = field(default_factory=time.monotonic)

    def add(self, outcome: Outcome) -> None:
        """One shard more."""
        self.images += outcome.images + outcome.unreadable
        self.detections += outcome.detections
        self.tiles += outcome.tiles
        self.looked_at += outcome.looked_at
        if outcome.failure:
            self.failures.append(outcome.failure)

    @property
    def seconds(self) -> float:
        """Since this start."""
        return time.monotonic() - self._start


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveReport:
    """images, detections: with an answer, over all starts. unreadable: file and reason of each that could not be read.

    shards_left: not finished (0 = the archive is complete); failures: why, for those that were given up. images_now,
    seconds, images_per_second: of this start alone, with those that could not be read. guide: of this start alone, how
    many "tiles" there were and how many were "looked_at"; None where no guide chose.
    """

    files: int
    images: int
    detections: int
    unreadable: tuple[dict[str, str], ...]
    shards: int
    shards_left: int
    failures: tuple[str, ...]
    images_now: int
    seconds: float
    images_per_second: float
    guide: dict[str, int] | None = None

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.shards_left == 0

    def to_json(self) -> dict[str, Any]:
        """As report.json says it."""
        return asdict(self)


def write_report(storage: Storage, manifest: Manifest, tally: Tally) -> ArchiveReport:
    """Count what the tables hold, and write report.json."""
    while True:
        report = _counted(storage, manifest, tally)
        storage.write(REPORT, (json.dumps(report.to_json(), indent=2) + "\n").encode("ascii"))
        # Another share may have counted later and written before: the last to write must have seen everything.
        if report.shards_left == _shards_left(storage, manifest):
            break
    if report.complete:
        for folder in (IMAGES, DETECTIONS, ATTEMPTS, ""):
            storage.sweep(folder)
    return report


def _shards_left(storage: Storage, manifest: Manifest) -> int:
    return manifest.num_shards - len(finished_shards(storage))


def _counted(storage: Storage, manifest: Manifest, tally: Tally) -> ArchiveReport:
    shards_left = _shards_left(storage, manifest)
    images, detections, unreadable = 0, 0, []
    for row in all_rows(storage, IMAGES):
        if row["error"] is None:
            images, detections = images + 1, detections + row["detections"]
        else:
            unreadable.append({"file": row["file"], "reason": row["error"]})
    return ArchiveReport(
        files=manifest.num_images,
        images=images,
        detections=detections,
        unreadable=tuple(unreadable),
        shards=manifest.num_shards,
        shards_left=shards_left,
        failures=tuple(tally.failures),
        images_now=tally.images,
        seconds=round(tally.seconds, 3),
        images_per_second=round(tally.images / max(tally.seconds, 1e-9), 3),
        guide=None if manifest.guide is None else {"tiles": tally.tiles, "looked_at": tally.looked_at},
    )
