from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch
import typer

from smidgen.cli.failures import describe, report, usage_error
from smidgen.training import Interrupted, OutOfMemory


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ValueError("expected 3, got 4"), 2, "expected 3, got 4"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "x.json"),
            2,
            "No such file or directory: x.json",
        ),
        (typer.BadParameter("not a number"), 2, "Invalid value: not a number"),
        (OSError(errno.ENOSPC, "could not write last: No space left"), 1, "could not write last: No space left"),
        (torch.OutOfMemoryError("CUDA out of memory"), 1, "out of memory: CUDA out of memory"),
        (RuntimeError("boom"), 1, "RuntimeError: boom"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (Interrupted(Path("run"), 3), 130, str(Interrupted(Path("run"), 3))),
        (OutOfMemory("out of memory. To need less: ..."), 1, "out of memory. To need less: ..."),
    ],
)
def test_exit_codes_and_words(error: BaseException, code: int, words: str) -> None:
    failure = describe(error)
    assert (failure.code, failure.error) == (code, words)


def test_notes_are_the_hint() -> None:
    assert describe(usage_error("no", "try this")).hint == "try this"
    assert "batch-size" in describe(MemoryError("no")).hint


def test_json_has_the_agreed_keys_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(usage_error("no", "try this"), as_json=True) == 2
    out, err = capsys.readouterr()
    assert json.loads(out) == {"error": "no", "hint": "try this"} and err == ""


def test_a_traceback_is_shown_when_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMIDGEN_DEBUG", "1")
    try:
        raise RuntimeError("boom")
    except RuntimeError as error:
        report(error, as_json=False)
    out, err = capsys.readouterr()
    assert "Traceback" in err and out == ""
