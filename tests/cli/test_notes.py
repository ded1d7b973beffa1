"""Notes of a long run do not bury it."""

from __future__ import annotations

import pytest

from smidgen.cli.notes import Notes


@pytest.mark.parametrize(
    ("count", "lines"),
    [(0, []), (2, ["0", "1"]), (3, ["0", "1", "1 more notes like these are not shown"])],
)
def test_the_first_notes_are_said_and_the_others_counted(
    capsys: pytest.CaptureFixture[str], count: int, lines: list[str]
) -> None:
    with Notes(most=2) as notes:
        for number in range(count):
            notes.say(str(number))
    assert capsys.readouterr().err.splitlines() == lines
