"""Shapes in signatures are checked while tests run: jaxtyping with beartype, over the stage folders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintException

# Where a float is expected an int will do, as for mypy.
CHECK = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its arguments checked; unchanged where a hint (a plain Protocol) cannot be checked."""
    try:
        return CHECK(function)
    except BeartypeDecorHintException:
        return function
