"""In what runs differ: fields of their experiments and of the environments they were trained in, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from smidgen.checkpoints.native import checkpoint_folder, read_description

EXPERIMENT_FILE, ENVIRONMENT_FILE = "experiment.yaml", "environment.json"
# When a run began says nothing about its result.
TRIVIAL = ("started",)

Differences = dict[str, dict[str, Any]]


def experiment_differences(runs: Mapping[str, Path]) -> Differences:
    """Dotted field -> run's name -> value, where runs differ; a run that does not have the field is left out there.

    runs: name -> run folder or checkpoint. A checkpoint without a run around it knows its model only, and is not asked
    about other fields. Raises ValueError where a file cannot be read.
    """
    return differing({name: _experiment(path) for name, path in runs.items()})


def environment_differences(runs: Mapping[str, Path]) -> Differences:
    """The same for the machines, packages and commit that runs were trained with; {} where fewer than two say so."""
    return differing({name: _environment(path) for name, path in runs.items()})


def differing(documents: Mapping[str, Mapping[str, Any]]) -> Differences:
    """Fields with more than one value among the documents that have the field's section (the part before a dot)."""
    flat = {name: _flattened(document) for name, document in documents.items()}
    fields = dict.fromkeys(field for values in flat.values() for field in values)
    found: Differences = {}
    for field in fields:
        asked = [name for name, document in documents.items() if field.partition(".")[0] in document]
        values = {name: flat[name][field] for name in asked if field in flat[name]}
        distinct = {json.dumps(value, sort_keys=True, default=str) for value in values.values()}
        if len(distinct) > 1 or len(values) < len(asked):
            found[field] = values
    return found


def _flattened(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted fields; an empty one is a value."""
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, Mapping) and value:
            flat |= _flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _experiment(path: Path) -> dict[str, Any]:
    file = _in_run(path, EXPERIMENT_FILE)
    if file is None:
        description = read_description(checkpoint_folder(path))
        return {"system": description["model"], "model": dict(description["config"])}
    return _mapping(file, yaml.safe_load, yaml.YAMLError)


def _environment(path: Path) -> dict[str, Any]:
    file = _in_run(path, ENVIRONMENT_FILE)
    document = {} if file is None else _mapping(file, json.loads, json.JSONDecodeError)
    return {key: value for key, value in document.items() if key not in TRIVIAL}


def _in_run(path: Path, name: str) -> Path | None:
    """The file in the run folder that `path` is, or whose checkpoint it is."""
    return next((folder / name for folder in (path, path.parent) if (folder / name).is_file()), None)


def _mapping(file: Path, parse: Any, broken: type[Exception]) -> dict[str, Any]:
    try:
        document = parse(file.read_text(encoding="utf-8"))
    except (broken, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read: {error}; compare without it by moving it away") from error
    if not isinstance(document, dict):
        raise ValueError(f"expected fields and values in {file}, got a {type(document).__name__}")
    return document
