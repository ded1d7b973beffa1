"""Exceptions turned into an exit code and words that help; a traceback only when SMIDGEN_DEBUG=1 asks for it."""

from __future__ import annotations

import json
import os
import sys
import traceback
from dataclasses import dataclass
from enum import IntEnum

import typer


class ExitCode(IntEnum):
    """What the process tells its caller."""

    OK = 0
    FAILED = 1
    USAGE = 2
    DATASET_ERRORS = 3
    VERIFICATION_FAILED = 4
    INTERRUPTED = 130


@dataclass(frozen=True)
class Failure:
    """What went wrong, what to do about it ("" = the error says it all), and the exit code."""

    error: str
    hint: str
    code: ExitCode


def usage_error(error: str, hint: str = "") -> ValueError:
    """An error of the user's input whose remedy is said apart."""
    failure = ValueError(error)
    if hint:
        failure.add_note(hint)
    return failure


def describe(error: BaseException) -> Failure:
    """Failure of an exception. Notes added to it (PEP 678) are its hint.

    ValueError and missing files are the user's input (2); a full disk, exhausted memory and everything else is 1.
    """
    hint = " ".join(getattr(error, "__notes__", []))
    if isinstance(error, (KeyboardInterrupt, typer.Abort)) or type(error).__module__ == _INTERRUPTION:
        return Failure(str(error) or "interrupted", hint, ExitCode.INTERRUPTED)
    if isinstance(error, _USAGE_EXCEPTION):
        return Failure(_usage_message(error), hint or _help_hint(error), ExitCode.USAGE)
    if isinstance(error, (FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError)):
        return Failure(_path_message(error), hint, ExitCode.USAGE)
    if isinstance(error, ValueError):
        return Failure(str(error), hint, ExitCode.USAGE)
    if isinstance(error, OSError):
        return Failure(_path_message(error), hint or _system_hint(error), ExitCode.FAILED)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Failure(f"out of memory: {error}", hint or _MEMORY_HINT, ExitCode.FAILED)
    if type(error).__module__.startswith("smidgen."):  # raised by us, with a message meant for people
        return Failure(str(error), hint, ExitCode.FAILED)
    return Failure(f"{type(error).__name__}: {error}", hint or _BUG_HINT, ExitCode.FAILED)


def report(error: BaseException, as_json: bool) -> int:
    """Print a failure (one JSON object on stdout, or words on stderr) and return the exit code."""
    failure = describe(error)
    if os.environ.get("SMIDGEN_DEBUG") == "1":
        traceback.print_exception(error)
    if as_json:
        print(json.dumps({"error": failure.error, "hint": failure.hint}))
    else:
        print(f"error: {failure.error}", file=sys.stderr)
        if failure.hint:
            print(f"hint: {failure.hint}", file=sys.stderr)
    return int(failure.code)


# Typer's own usage errors have no public common class: BadParameter's second ancestor, ClickException, is it.
_USAGE_EXCEPTION: type[BaseException] = typer.BadParameter.__mro__[2]
# Where smidgen.training.Interrupted is defined; importing it here would load torch.
_INTERRUPTION = "smidgen.training.interruption"
_MEMORY_HINT = "use a smaller --batch-size, or a smaller model.preprocessing.short_side"
_BUG_HINT = "set SMIDGEN_DEBUG=1 to see where it happened"


def _usage_message(error: BaseException) -> str:
    formatter = getattr(error, "format_message", None)
    return str(formatter()) if formatter else str(error)


def _help_hint(error: BaseException) -> str:
    context = getattr(error, "ctx", None)
    return f"see `{context.command_path} --help`" if context else ""


def _path_message(error: OSError) -> str:
    if error.strerror and error.filename is not None:
        return f"{error.strerror}: {error.filename}"
    return error.strerror or str(error)


def _system_hint(error: OSError) -> str:
    if error.errno == 28:  # ENOSPC
        return "free some space or choose another --out; the file that was there before is untouched"
    return ""
