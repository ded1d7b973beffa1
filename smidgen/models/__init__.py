"""The systems, each a short composition of parts. CATALOGUE names them; nothing is imported until one is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from fnmatch import fnmatch
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from smidgen.structures import Classes


@dataclass(frozen=True)
class Entry:
    """How a catalogue name is built.

    config, model, criterion: "module:attribute" (or the object itself) of the configuration dataclass, the builder
    `(config) -> model` and the builder `(config) -> criterion`. settings: what this size changes in the configuration.
    paper: one line for `smidgen models`.
    """

    config: str | type
    model: str | Callable[..., Any]
    criterion: str | Callable[..., Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    paper: str = ""


CATALOGUE: dict[str, Entry] = {}
