"""Options of guided tiling, and the settings they make."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smidgen.cli.failures import usage_error
from smidgen.cli.output import say

if TYPE_CHECKING:
    from smidgen.inference import Guide, GuidedTiles

_PANEL = "Large images"

GuideScale = Annotated[
    float | None,
    typer.Option(
        "--guide",
        metavar="SCALE",
        help="Look from afar first, at this factor of the image's sides (0.25), and then only at tiles in which the "
        "maps of query_det or salience_detr saw something.",
        rich_help_panel=_PANEL,
    ),
]
GuideThreshold = Annotated[
    float | None,
    typer.Option(help="Score of a map from which on a tile is looked at.", show_default="0.1", rich_help_panel=_PANEL),
]
GuideShare = Annotated[
    float | None,
    typer.Option(help="Look at this share of an image's tiles at most, the best ones.", rich_help_panel=_PANEL),
]


def chosen_guide(scale: float | None, threshold: float | None, share: float | None, *, tiled: bool) -> Guide | None:
    """The settings; None without --guide. Raises a usage error where --guide is missing, or tiles to choose among."""
    if scale is None:
        if threshold is not None or share is not None:
            raise usage_error("--guide-threshold and --guide-share need --guide", "add --guide 0.25, or leave them out")
        return None
    if not tiled:
        raise usage_error("--guide needs --tile: it chooses among tiles", "add --tile 1024, or leave --guide out")
    from smidgen.inference import Guide

    guide = Guide(scale=scale, share=share)
    return guide if threshold is None else replace(guide, threshold=threshold)


def say_looked_at(looking: GuidedTiles | None) -> dict[str, Any] | None:
    """A line about the tiles that a guide chose, on stderr; the same for JSON. None where no guide chose."""
    if looking is None:
        return None
    say(looked_at_in_words(looking.num_chosen, looking.num_tiles))
    return looking.to_json()


def looked_at_in_words(looked_at: int, tiles: int) -> str:
    """How many tiles of how many deserved a look."""
    return f"guide: {looked_at} of {tiles} tiles looked at ({looked_at / max(tiles, 1):.1%})"
