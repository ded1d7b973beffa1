"""The command `smidgen`: its verbs, its global options, and what becomes of their answers and errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from typing import Annotated, Any

import typer

from smidgen import __version__
from smidgen.cli import (
    analyze,
    check,
    compare,
    convert,
    convert_data,
    demo,
    evaluate,
    export,
    models,
    predict,
    profile,
    score,
    serve,
    stats,
    sweep_size,
    synth,
    train,
)
from smidgen.cli.failures import ExitCode, report
from smidgen.cli.output import Result
from smidgen.cli.plugins import load_plugins

app = typer.Typer(
    name="smidgen",
    epilog=(
        "Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 dataset errors found, 4 verification failed, "
        "130 interrupted."
    ),
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for verb in (
    demo.demo, models.models, check.check, stats.stats, synth.synth, convert_data.convert_data, train.train,
    evaluate.evaluate, score.score, predict.predict, analyze.analyze, compare.compare, sweep_size.sweep_size,
    profile.profile, convert.convert, export.export, serve.serve,
):  # fmt: skip
    app.command()(verb)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"smidgen {__version__}")
        raise typer.Exit


@app.callback()
def options(
    plugin: Annotated[
        list[str] | None, typer.Option(help="Import this module first: it may register models and parts (repeatable).")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Detect small and tiny objects: train, evaluate and use published systems built from interchangeable parts."""
    load_plugins(plugin or [])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; never raises for what a user did."""
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    as_json = "--json" in given
    _let_threads_sleep()
    try:
        return _run(given, as_json)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away: nobody is left to tell
        return 1
    except (Exception, KeyboardInterrupt) as error:
        return report(error, as_json)


def _let_threads_sleep() -> None:
    """Threads of a parallel operation that wait for each other sleep instead of spinning, unless the user decided.

    Where another program needs the cores, spinning made training 30 times slower; torch reads this when it is loaded.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _run(arguments: list[str], as_json: bool) -> int:
    # Libraries print on stdout at will; with --json it belongs to the one object.
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        answer: Any = app(args=arguments, prog_name="smidgen", standalone_mode=False)
    if isinstance(answer, Result):
        answer.print(as_json)
        return int(answer.code)
    if answer == ExitCode.INTERRUPTED:
        raise KeyboardInterrupt  # typer has made a number of it
    return int(answer or 0)
