"""Options of tiled prediction, and the settings they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from smidgen.cli.failures import usage_error
from smidgen.cli.output import say

if TYPE_CHECKING:
    from smidgen.export.bundle import Tiling as Plan
    from smidgen.inference import Tiling

_PANEL = "Large images"

Tile = Annotated[
    int | None,
    typer.Option(
        "--tile",
        metavar="PX",
        min=0,
        help="Look at overlapping tiles of this side; any size of image. 0: at whole images, also where an exported "
        "file has a plan of its own.",
        show_default="that plan, or whole images",
        rich_help_panel=_PANEL,
    ),
]
Overlap = Annotated[
    str | None,
    typer.Option(
        help="What tiles share: a share of the tile, or 200px.",
        show_default="the objects in training decide; else 0.2",
        rich_help_panel=_PANEL,
    ),
]
Merge = Annotated[
    str | None,
    typer.Option(
        metavar="nms|soft|fusion|none",
        help="What becomes of several detections of one object.",
        show_default="nms",
        rich_help_panel=_PANEL,
    ),
]
Agnostic = Annotated[bool, typer.Option("--agnostic", help="Merge across classes, too.", rich_help_panel=_PANEL)]
WholeImage = Annotated[
    bool,
    typer.Option(
        "--whole-image",
        help="Look at the reduced image, too, for what is larger than the overlap.",
        rich_help_panel=_PANEL,
    ),
]
Flips = Annotated[bool, typer.Option("--flips", help="Look at each tile mirrored, too.", rich_help_panel=_PANEL)]
Scales = Annotated[
    str | None,
    typer.Option(
        help="Factors of the model's input size, such as 1.0,1.5.", show_default="1.0", rich_help_panel=_PANEL
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(help="Most memory to take above the model.", show_default="2GiB", rich_help_panel=_PANEL),
]
Bands = Annotated[
    str | None,
    typer.Option(help="Bands of a raster to show as red, green and blue, such as 4,3,2.", rich_help_panel=_PANEL),
]
ValueRange = Annotated[
    str | None,
    typer.Option(
        metavar="LOW,HIGH", help="Values of a raster that are black and white, such as 0,3000.", rich_help_panel=_PANEL
    ),
]


def chosen_tiling(tile: int | None, plan: Plan | None = None, **options: Any) -> Tiling | None:
    """The settings; None without tiles. plan: what an exported file recommends, which goes where --tile is not given.
    options: by the names above, as `predict` has them. Raises ValueError for what makes no sense, and a usage error
    where --tile is missing.
    """
    if tile is None and plan is not None:
        given = options["overlap"]
        tiling = _tiling(plan.tile_px, **{**options, "overlap": str(plan.overlap) if given is None else given})
        say(f"as the exported file says: {in_words(tiling)} (--tile 0 looks at whole images)")
        return tiling
    if not tile:
        _refuse_without_tile(**options)
        return None
    return _tiling(tile, **options)


def in_words(tiling: Tiling) -> str:
    """Which tiles, for people."""
    return f"tiles of {tiling.tile_px} px that overlap by {tiling.overlap_px} px"


def _tiling(
    tile: int,
    *,
    overlap: str | None,
    merge: str | None,
    agnostic: bool,
    whole_image: bool,
    flips: bool,
    scales: str | None,
    memory: str | None,
    bands: str | None,
    value_range: str | None,
) -> Tiling:
    from smidgen.boxes.tile_merging import Merging
    from smidgen.inference import Tiling
    from smidgen.inference.tiling import PixelRules, memory_in_bytes

    kind: Any = merge or "nms"
    given: dict[str, Any] = {
        "overlap": overlap,
        "scales": scales and tuple(_numbers(scales, "--scales", "1.0,1.5")),
        "memory_bytes": memory and memory_in_bytes(memory),
    }
    return Tiling(
        tile_px=tile,
        merging=Merging(kind=kind, agnostic=agnostic),
        whole_image=whole_image,
        flips=flips,
        pixels=PixelRules(bands=_bands(bands), value_range=_value_range(value_range)),
        **{name: value for name, value in given.items() if value is not None},
    )


def _refuse_without_tile(**options: object) -> None:
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
    if given:
        raise usage_error(f"{', '.join(given)} belong to tiled prediction", "say the size of the tiles: --tile 1024")


def _numbers(text: str, option: str, example: str, count: int | None = None) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or (count is not None and len(numbers) != count):
        raise ValueError(f"expected numbers such as {example}, got {text!r}; change {option}")
    return numbers


def _bands(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    numbers = _numbers(text, "--bands", "4,3,2", 3)
    if not all(number.is_integer() for number in numbers):
        raise ValueError(f"expected numbers of bands such as 4,3,2, got {text!r}; change --bands")
    red, green, blue = map(int, numbers)
    return red, green, blue


def _value_range(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    low, high = _numbers(text, "--value-range", "0,3000", 2)
    return low, high
