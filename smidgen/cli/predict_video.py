"""`smidgen predict` of videos, numbered frames and streams: a line of JSON per frame, and an annotated film."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from smidgen.cli.failures import ExitCode, usage_error
from smidgen.cli.guide_options import say_looked_at
from smidgen.cli.notes import Notes
from smidgen.cli.output import Result, say
from smidgen.cli.progress import Progress

if TYPE_CHECKING:
    from torch import nn

PANEL = "Videos and streams"  # of the options in --help

Film = Annotated[
    Path | None,
    typer.Option(
        "--video", help="Of a video or stream: write the annotated film to this .mp4, too.", rich_help_panel=PANEL
    ),
]
Every = Annotated[
    int, typer.Option(min=1, help="Of a video or stream: look at one frame in so many.", rich_help_panel=PANEL)
]
FramesPerSecond = Annotated[
    float | None,
    typer.Option("--fps", help="Read a pattern's pictures as frames of a video at this rate.", rich_help_panel=PANEL),
]

BROKEN_FRAMES_SAID = 10


def are_videos(sources: Sequence[str], fps: float | None) -> bool:
    """Whether all sources are videos. Raises ValueError where only some are."""
    from smidgen.inference.video import is_video

    videos = [source for source in sources if is_video(source, fps)]
    if videos and len(videos) < len(sources):
        raise usage_error("expected images or videos, got both", "give them to two commands")
    return bool(videos)


def need_a_video(film: Path | None, every: int, fps: float | None) -> None:
    """Raises ValueError where options of videos are given for images."""
    given = [name for name, value in {"--video": film, "--every": every > 1, "--fps": fps}.items() if value]
    if given:
        raise usage_error(
            f"expected a video, a stream or numbered frames with {', '.join(given)}, got images",
            "with --fps a quoted pattern of pictures is a video",
        )


def predict_videos(
    model: nn.Module, sources: Sequence[str], out: Path, film: Path | None, *, every: int, fps: float | None, **how: Any
) -> Result:
    """Detect in the frames of each source. how: what `detect_frames` takes. Exit code 1 where no frame was readable."""
    if film is not None and len(sources) > 1:
        raise usage_error(f"expected one source with --video, got {len(sources)}", "leave --video out, or name one")
    if film is not None and film.resolve() in (Path(source).resolve() for source in sources):
        raise usage_error(f"expected --video to name another file than the video itself, got {film}", "change --video")
    with Notes() as notes:
        videos = [
            _predict_one(model, source, out / f"{name}.jsonl", film, every, fps, {**how, "on_note": notes.say})
            for source, name in zip(sources, _names(sources), strict=True)
        ]

    def show(console: Console) -> None:
        for video in videos:
            broken = f", {video['broken']} broken" if video["broken"] else ""
            if "error" not in video:
                console.print(
                    f"{video['detections']} detections in {video['frames']} frames{broken}: {video['lines']}",
                    markup=False,
                )

    code = ExitCode.OK if any(video["frames"] for video in videos) else ExitCode.FAILED
    return Result({"videos": videos}, show, code)


def _predict_one(
    model: nn.Module, source: str, lines: Path, film: Path | None, every: int, fps: float | None, how: dict[str, Any]
) -> dict[str, Any]:
    from smidgen.inference import GuidedTiles
    from smidgen.inference.video import (
        BrokenFrame,
        UnreadableVideoError,
        VideoCounts,
        detect_frames,
        record_video,
        video_source,
    )

    told: dict[str, Any] = {"file": source, "lines": str(lines), "video": str(film) if film else None}
    counts, guide = VideoCounts(), how["guide"]
    looking = None if guide is None else GuidedTiles(model, guide, how["device"])
    frames = video_source(source, every=every, frames_per_second=fps)
    answers = detect_frames(model, frames, **{**how, "guide": looking})
    try:
        with Progress("frames") as progress:
            for answer, counts in record_video(answers, lines, film):
                progress.at(counts.frames + counts.broken)
                if isinstance(answer, BrokenFrame) and counts.broken <= BROKEN_FRAMES_SAID:
                    say(f"skipped frame {answer.index} of {source}: {answer.reason}")
    except UnreadableVideoError as error:
        say(f"skipped: {error}")
        told["error"] = str(error)
    if how["tiling"] is not None:
        told["tiling"] = how["tiling"].described()
    if looking is not None:
        told["guide"] = say_looked_at(looking)
    return told | asdict(counts)


def _names(sources: Sequence[str]) -> list[str]:
    """A file name for each source, all different."""
    plain = [re.sub(r"[^\w.-]+", "_", source if "://" in source else Path(source).stem) for source in sources]
    names: list[str] = []
    for name in (name.strip("_.") or "video" for name in plain):
        others = (f"{name}-{number}" for number in count(2))
        names.append(next(one for one in chain([name], others) if one not in names))
    return names
