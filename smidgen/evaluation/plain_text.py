"""What rich would show on a terminal, as plain text for files and pipes."""

from __future__ import annotations

from rich.console import Console, RenderableType


def plain_text(renderable: RenderableType, width: int) -> str:
    """The renderable in `width` columns, without colors."""
    console = Console(width=width, no_color=True, force_terminal=False, legacy_windows=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()
