"""Options of guided tiling, and the settings they make."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from smidgen.cli.failures import usage_error

if TYPE_CHECKING:
    from smidgen.inference import Guide

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
    typer.Option(help="Score of a map from which on a tile is looked at. [default: 0.1]", rich_help_panel=_PANEL),
]
GuideShare = Annotated[
    float | None,
    typer.Option(help="Look at this share of an image's tiles at most, the best ones.", rich_help_panel=_PANEL),
]


def chosen_guide(
    scale: float | None, threshold: float | None, share: float | None, *, tile: int | None
) -> Guide | None:
    """The settings; None without --guide. Raises a usage error where --guide or --tile is missing."""
    if scale is None:
        if threshold is not None or share is not None:
            raise usage_error("--guide-threshold and --guide-share need --guide", "add --guide 0.25, or leave them out")
        return None
    if tile is None:
        raise usage_error("--guide needs --tile: it chooses among tiles", "add --tile 1024, or leave --guide out")
    from smidgen.inference import Guide

    guide = Guide(scale=scale, share=share)
    return guide if threshold is None else replace(guide, threshold=threshold)
