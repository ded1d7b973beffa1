"""`smidgen predict --engine`: an archive as Parquet tables, which goes on where an earlier start ended."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console

from smidgen.cli.failures import ExitCode, usage_error
from smidgen.cli.guide_options import looked_at_in_words
from smidgen.cli.notes import Notes
from smidgen.cli.output import Result, say
from smidgen.cli.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from smidgen.inference.archives import ArchiveReport, Execution, Tally

PANEL = "Archives"  # of the options in --help

Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="local|ray",
        help="Write an archive's Parquet tables to --out, and go on where an earlier start ended. Sources may be URLs.",
        rich_help_panel=PANEL,
    ),
]
Workers = Annotated[
    int, typer.Option(min=1, help="With --engine: processes that have a copy of the model each.", rich_help_panel=PANEL)
]
ShardImages = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="With --engine: images finished together.",
        show_default="256; with --tile: 16",
        rich_help_panel=PANEL,
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        help="With --engine ray: a cluster; auto = the one that runs here; else this machine.", rich_help_panel=PANEL
    ),
]


def need_an_engine(workers: int, shard_images: int | None, ray_address: str | None) -> None:
    """Raises ValueError where options of archives are given without --engine."""
    options = {"--workers": workers > 1, "--shard-images": shard_images, "--ray-address": ray_address}
    given = [name for name, value in options.items() if value]
    if given:
        raise usage_error(f"expected --engine with {', '.join(given)}", "give --engine local or --engine ray")


def predict_to_tables(
    model: nn.Module, sources: Sequence[str], out: str, execution: Execution, *, shard_images: int | None, **what: Any
) -> Result:
    """Work through the archive and tell its report; exit code 1 where a shard was given up or nothing was readable.

    what: the settings of `predict_archive` that change answers.
    """
    from smidgen.inference.archives import predict_archive

    with _Bar() as bar, Notes() as notes:
        report = predict_archive(
            model,
            sources,
            out,
            images_per_shard=shard_images,
            execution=execution,
            on_progress=bar.at,
            on_note=notes.say,
            **what,
        )
    if report.guide is not None:
        say(looked_at_in_words(report.guide["looked_at"], report.guide["tiles"]))
    code = ExitCode.FAILED if report.failures or (report.complete and not report.images) else ExitCode.OK
    return Result(report.to_json(), lambda console: _show(report, out, console), code)


def execution(engine: str, workers: int, batch_size: int, device: str, ray_address: str | None) -> Execution:
    """How to work, with the cores shared out among the workers, and the shards among torchrun's processes.

    Raises ValueError for settings that are not offered.
    """
    from smidgen.inference.archives import Execution, Share

    return Execution(
        engine=cast("Any", engine),
        workers=workers,
        batch_size=batch_size,
        device=device,
        threads=None if workers == 1 else max(1, (os.cpu_count() or 1) // workers),
        ray_address=ray_address,
        share=Share(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))),
    )


class _Bar:
    """Progress whose total is known when the files are listed."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *error: object) -> None:
        if self._progress:
            self._progress.__exit__(*error)

    def at(self, tally: Tally) -> None:
        """So much is done by now."""
        if self._progress is None:
            self._progress = Progress("images", tally.planned).__enter__()
        self._progress.at(tally.images)


def _show(report: ArchiveReport, out: str, console: Console) -> None:
    unreadable = f", {len(report.unreadable)} unreadable (report.json names them)" if report.unreadable else ""
    console.print(
        f"{report.detections} detections in {report.images} images{unreadable}; {report.images_now} of them now, "
        f"{report.images_per_second:.1f} per second: {out}",
        markup=False,
    )
    for failure in report.failures:
        console.print(f"given up: {failure}", markup=False)
    left = report.shards_left - len(report.failures)
    if left > 0:
        console.print(f"{left} of {report.shards} shards are left to other processes, or to another start")
