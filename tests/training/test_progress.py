"""Lines come now and then, and a terminal gets a bar."""

from __future__ import annotations

import io

from rich.console import Console

from smidgen.training.progress import LineDisplay, open_display, step_status


def test_lines_are_rare_but_the_last_always_comes() -> None:
    console = Console(file=io.StringIO(), width=40)
    display = LineDisplay(console, total=100, done=0, seconds_between=3600)
    for step in range(1, 101):
        display.advance(step, "loss 1.25 [not markup]")
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split(",")[0] for line in lines] == ["step 1/100", "step 100/100"]
    assert lines[1] == "step 100/100, 0:00:00 left, loss 1.25 [not markup]"


def test_a_terminal_gets_a_bar_and_text_above_it() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with open_display(10, 4, enabled=True, console=console) as display:
        display.advance(5, "loss 2.5")
        display.say("evaluated")
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert "5/10" in written
    assert "evaluated" in written


def test_other_processes_are_silent() -> None:
    console = Console(file=io.StringIO())
    with open_display(10, 0, enabled=False, console=console) as display:
        display.advance(1, "loss")
        display.say("text")
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]


def test_a_step_says_what_part_of_the_time_it_waited_for_data() -> None:
    assert step_status(3, 1.23456, 0.5, 0.124) == "epoch 3, loss 1.235, 0.50 GB, waited 12% for data"
