"""Categories that no object has, that are there twice, or that mean something else in another split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from smidgen.data.checks.findings import Finding
from smidgen.data.dataset import DetectionDataset
from smidgen.data.image_files import shown
from smidgen.structures import Classes


def category_findings(splits: Mapping[str, DetectionDataset]) -> Iterator[Finding]:
    """Of all splits together; a category counts as used where any split has an object of it."""
    if not splits:
        return
    yield from _repeated_names(splits)
    yield from _differences(splits)
    counts = {split: _objects_by_name(dataset) for split, dataset in splits.items()}
    yield from _unused(splits, counts)
    yield from _unseen(splits, counts)


def category_key(name: str) -> str:
    """What makes two names the same to people."""
    return name.strip().casefold()


def _repeated_names(splits: Mapping[str, DetectionDataset]) -> Iterator[Finding]:
    reported: set[str] = set()
    for dataset in splits.values():
        first: dict[str, int] = {}
        for name, identity in zip(dataset.classes.names, dataset.classes.ids, strict=True):
            key = category_key(name)
            if first.setdefault(key, identity) != identity and key not in reported:
                reported.add(key)
                yield Finding(
                    "duplicate_category", shown(dataset.path), f"{name!r} has the ids {first[key]}, {identity}"
                )


def _differences(splits: Mapping[str, DetectionDataset]) -> Iterator[Finding]:
    (reference_split, reference), *others = splits.items()
    for split, dataset in others:
        if dataset.classes != reference.classes:
            missing = _difference(reference.classes, dataset.classes)
            added = _difference(dataset.classes, reference.classes)
            observed = f"{split} has {added or 'none'} where {reference_split} has {missing or 'none'}"
            yield Finding("different_categories", shown(dataset.path), observed)


def _difference(classes: Classes, others: Classes) -> str:
    """Categories of one list that the other does not have, as "id name"."""
    known = set(zip(others.ids, others.names, strict=True))
    pairs = [pair for pair in zip(classes.ids, classes.names, strict=True) if pair not in known]
    return ", ".join(f"{identity} {name}" for identity, name in pairs)


def _objects_by_name(dataset: DetectionDataset) -> dict[str, int]:
    labels = np.concatenate([np.zeros(0, dtype=np.int64), *(record.labels for record in dataset.records)])
    counts = np.bincount(labels, minlength=len(dataset.classes))
    by_name: dict[str, int] = {}
    for name, count in zip(dataset.classes.names, counts, strict=True):
        by_name[name] = by_name.get(name, 0) + int(count)
    return by_name


def _unused(splits: Mapping[str, DetectionDataset], counts: Mapping[str, Mapping[str, int]]) -> Iterator[Finding]:
    path = shown(next(iter(splits.values())).path)
    for name in dict.fromkeys(name for by_name in counts.values() for name in by_name):
        if not any(by_name.get(name) for by_name in counts.values()):
            yield Finding("unused_category", path, f"no object is a {name!r}")


def _unseen(splits: Mapping[str, DetectionDataset], counts: Mapping[str, Mapping[str, int]]) -> Iterator[Finding]:
    train = next((split for split, dataset in splits.items() if dataset.split == "train"), None)
    if train is None:
        return
    for split, by_name in counts.items():
        for name, count in by_name.items():
            if count and not counts[train].get(name):
                observed = f"{split} has {count} of {name!r}, {train} none"
                yield Finding("unseen_category", shown(splits[split].path), observed)
