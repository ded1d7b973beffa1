"""What a verb answers: values for programs (--json, one object on stdout) and a picture of them for people."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from smidgen.cli.failures import ExitCode


@dataclass(frozen=True)
class Result:
    """A verb's answer. values: what --json prints. show: prints it for people. code: the exit code.

    document: a JSON file that is the answer instead of `values`, where it may be too large for memory.
    """

    values: dict[str, Any]
    show: Callable[[Console], None]
    code: ExitCode = ExitCode.OK
    document: Path | None = None

    def print(self, as_json: bool) -> None:
        """Write the answer to stdout, once where torchrun started several processes."""
        if not speaks():
            return
        if not as_json:
            self.show(Console(highlight=False, soft_wrap=True))
        elif self.document is None:
            print(json.dumps(self.values), flush=True)
        else:
            with self.document.open(encoding="ascii") as stream:
                shutil.copyfileobj(stream, sys.stdout)


def speaks() -> bool:
    """Whether this process is the one that talks; torchrun numbers them."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    """A line about what is going on, on stderr."""
    if speaks():
        print(text, file=sys.stderr, flush=True)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table whose first column is text and whose other columns are numbers, aligned right."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        made.add_column(escape(column), justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        made.add_row(*(escape(cell(value)) for value in row))
    return made


def cell(value: object) -> str:
    """A figure as tables show it; -1 (there is no such ground truth) is a dash."""
    if isinstance(value, float):
        return "-" if value == -1 else f"{value:.3f}"
    return str(value)
