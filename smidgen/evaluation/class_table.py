"""Figures class by class, in as many tables below each other as the width of the terminal asks for.

A figure that is cut to "0.3..." says something wrong, so columns that do not fit go to the next table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.table import Table

# What a column takes besides its text: a line and a space on either side.
FRAME = 3
# Names longer than this are folded.
LONGEST_NAME = 24


@dataclass(frozen=True, slots=True)
class ClassTable:
    """rows: class name -> figure -> value. objects: how many of each class. shown: a value as text."""

    rows: Mapping[str, Mapping[str, float]]
    objects: Mapping[str, int]
    shown: Callable[[float], str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        figures = [name for name in next(iter(self.rows.values()), {}) if not name.startswith("AR")]
        number = self._fitting(figures, options.max_width)
        for start in range(0, max(1, len(figures)), number):
            yield self._table(figures[start : start + number])

    def _fitting(self, figures: list[str], width: int) -> int:
        """How many figures fit beside names and numbers of objects; at least one."""
        name = min(LONGEST_NAME, max([len("class"), *map(len, self.rows)]))
        left = width - 1 - (name + FRAME) - (len("objects") + FRAME)
        values = [self.shown(row[figure]) for row in self.rows.values() for figure in figures]
        column = max([1, *map(len, figures), *map(len, values)]) + FRAME
        return max(1, left // column)

    def _table(self, figures: list[str]) -> Table:
        table = Table()
        table.add_column("class", overflow="fold", max_width=LONGEST_NAME)
        for name in ("objects", *figures):
            table.add_column(name, justify="right", no_wrap=True)
        for name, row in self.rows.items():
            cells: list[Any] = [self.objects.get(name, ""), *(self.shown(row[figure]) for figure in figures)]
            table.add_row(name, *map(str, cells))
        return table
