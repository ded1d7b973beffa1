"""A piece of advice: the choices there are, the recall that each allows, and the cheapest that costs hardly any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

SLACK = 0.01
"""A choice is good enough if its bound is at most this far below the best one of its table."""


@dataclass(frozen=True, slots=True)
class Choice:
    """name: in words. bound: no more than this share of the objects can be found. figures: what else speaks for or
    against it, as text. settings: for `--set`, valid for the advice's `system`; empty = nothing to set.
    """

    name: str
    bound: float
    figures: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Advice:
    """topic: a short key. title, rule: what is chosen, and how its bound is computed. columns: of `Choice.figures`.
    choices: the preferred ones first. chosen: index of the advised one. sentence: the advice. system: a model of the
    catalogue whose configuration has the settings' fields.
    """

    topic: str
    title: str
    rule: str
    columns: tuple[str, ...]
    choices: tuple[Choice, ...]
    chosen: int
    sentence: str
    system: str

    @property
    def choice(self) -> Choice:
        """The advised one."""
        return self.choices[self.chosen]

    @property
    def command(self) -> str:
        """The settings as a command line takes them; empty where nothing is to be set."""
        return " ".join(f"--set {_quoted(setting)}" for setting in self.choice.settings)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "command": self.command}


def first_good(bounds: Sequence[float]) -> int:
    """Index of the first bound that is within SLACK of the best."""
    return next(index for index, bound in enumerate(bounds) if bound >= max(bounds) - SLACK)


def percent(share: float) -> str:
    """A share in per cent; only nothing is 0 % and only all of it 100 %."""
    if share in (0, 1):
        return f"{share:.0%}".replace("%", " %")
    return f"{min(max(share * 100, 0.1), 99.9):.1f} %"


def _quoted(setting: str) -> str:
    """In single quotes where a shell would read more into it than text."""
    plain = setting.replace("=", "").replace(".", "").replace("_", "").isalnum()
    return setting if plain else f"'{setting}'"
