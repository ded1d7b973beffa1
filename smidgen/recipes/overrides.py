"""Changes to nested frozen dataclasses by dotted path, checked field by field before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from typing import Any, TypeVar, cast, get_args, get_type_hints

import yaml
from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

Config = TypeVar("Config")


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """`["training.epochs=3", "data.augmentation.flip=0.5"]` as nested mappings; values are YAML. Later ones win."""
    changes: dict[str, Any] = {}
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path.strip():
            raise ValueError(f"expected path.to.field=value after --set, got {override!r}")
        *parents, name = path.strip().split(".")
        place = changes
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ValueError(f"--set gives {parent!r} a value and, in {override!r}, fields; give one of them")
        place[name] = _parsed(text, override)
    return changes


def changed(config: Config, changes: Mapping[str, Any], path: str = "") -> Config:
    """A copy of a dataclass with these (nested) fields changed.

    Values are converted to the fields' types by pydantic. Raises ValueError for an unknown field, naming the nearest
    one and the fields there are, and for a value of the wrong type.
    """
    kind = cast(Any, type(config))
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, value in changes.items():
        where = f"{path}.{name}" if path else str(name)
        if name not in {field.name for field in fields(kind)}:
            raise ValueError(_unknown(str(name), config, path))
        values[name] = _converted(getattr(config, name), hints[name], value, where)
    try:
        return cast(Config, replace(cast(Any, config), **values))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path or kind.__name__}: {error}") from error


def _parsed(text: str, override: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"expected a YAML value after the equals sign, got {override!r}") from error


def _converted(current: Any, hint: Any, value: Any, where: str) -> Any:
    if isinstance(value, Mapping) and is_dataclass(current):
        return changed(cast(Any, current), value, where)
    if isinstance(value, Mapping) and (kind := _dataclass_of(hint)) is not None:
        return changed(_defaults(kind, value, where), value, where)
    if hint is Any and is_dataclass(current) and not isinstance(value, type(current)):
        raise ValueError(f"{where}: expected fields as in {where}.{fields(current)[0].name}=..., got {value!r}")
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        raise ValueError(f"{where}: expected {_words(hint)}, got {value!r} ({problem})") from error
    except PydanticSchemaGenerationError as error:
        raise ValueError(f"{where} cannot be written as a value; change it in Python, in a recipe") from error


def _dataclass_of(hint: Any) -> type | None:
    """The dataclass of a field that may also be None."""
    kinds = [kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and is_dataclass(kind)]
    return kinds[0] if len(kinds) == 1 else None


def _defaults(kind: type, value: Mapping[str, Any], where: str) -> Any:
    """An instance to change: the defaults, or what is given where a field has none."""
    known = {field.name for field in fields(cast(Any, kind))}
    try:
        return kind(
            **{name: given for name, given in value.items() if name in known and not isinstance(given, Mapping)}
        )
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error


def _words(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _unknown(name: str, config: Any, path: str) -> str:
    names = [field.name for field in fields(config)]
    near = _one_level_below(name, config) or get_close_matches(name, names, n=1, cutoff=0.5)
    meant = f"; did you mean {'.'.join(filter(None, [path, near[0]]))!r}?" if near else ";"
    where = f"{path!r}" if path else "an experiment"
    return (
        f"unknown field {'.'.join(filter(None, [path, name]))!r}{meant} fields of {where}: {', '.join(sorted(names))}"
    )


def _one_level_below(name: str, config: Any) -> list[str]:
    """`section.name` for the sections of `config` that have such a field: a section left out is the likeliest slip."""
    sections = {field.name: getattr(config, field.name) for field in fields(config)}
    return [
        f"{section}.{name}"
        for section, value in sections.items()
        if is_dataclass(value) and name in {field.name for field in fields(value)}
    ]
