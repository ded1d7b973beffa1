"""Files that two splits list, known without reading them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from smidgen.data.checks.findings import Finding
from smidgen.data.dataset import DetectionDataset
from smidgen.data.image_files import shown


def same_paths(splits: Mapping[str, DetectionDataset]) -> Iterator[Finding]:
    """One finding for each file of a split that an earlier split has, too."""
    first: dict[Path, str] = {}
    for split, dataset in splits.items():
        for file in dict.fromkeys(record.file for record in dataset.records):
            earlier = first.setdefault(file.resolve(), split)
            if earlier != split:
                yield Finding("image_in_two_splits", shown(file), f"the same file is in {earlier}")
