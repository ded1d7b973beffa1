"""How large objects must become before they can be seen: input size, finest stride, tiles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from smidgen.analysis.dataset_advice.advice import Advice, Choice, first_good, percent
from smidgen.data.statistics.cells import pyramid_bound, share_of_side, share_with_own_cell
from smidgen.data.statistics.object_table import ObjectTable
from smidgen.data.statistics.tiles import TileStatistics, tile_statistics
from smidgen.structures import Preprocessing

SHORT_SIDES = (320, 480, 640, 800, 1024, 1280, 1600, 2048)
TILES_PX = (2048, 1600, 1024, 800, 640, 512, 400, 320, 256)
OVERLAP = 0.2
STRIDE = 8
"""Finest level of most systems' usual sizes."""
# Finest stride -> the strides of all levels; the last ones lie above the backbone.
PYRAMIDS = {16: (16, 32, 64), 8: (8, 16, 32, 64), 4: (4, 8, 16, 32, 64)}


def input_size_advice(table: ObjectTable, preprocessing: Preprocessing) -> Advice:
    """table: in pixels of the images on disk."""
    sizes = [preprocessing, *(_resized(preprocessing, side) for side in SHORT_SIDES)]
    sizes = sorted({size.short_side: size for size in reversed(sizes)}.values(), key=lambda size: size.short_side)
    choices = tuple(_input_size(table, size, preprocessing) for size in sizes)
    chosen = first_good([choice.bound for choice in choices])
    zoom = _zoom(table, table.at_input(sizes[chosen]))
    return Advice(
        "input_size",
        "Size of the network's input",
        f"Rule of thumb: an object shows if its side (square root of the box's area) spans a cell of the finest level, "
        f"{STRIDE} px in most systems, 4 px in those that start at stride 4. The bound is the share of such objects. "
        "Enlarging beyond the size on disk adds cells, but no detail.",
        ("side >= 4 px", "side >= 16 px", "5 % are below", "input px per disk px", "pixels to compute"),
        choices,
        chosen,
        f"An input of {choices[chosen].name} px lets {percent(choices[chosen].bound)} of the objects span {STRIDE} px; "
        f"a pixel on disk becomes {zoom:.2f} input pixels on average.",
        "dino_r50",
    )


def stride_advice(seen: ObjectTable) -> Advice:
    """seen: in pixels of the network input."""
    choices = tuple(_stride(seen, stride) for stride in PYRAMIDS)
    chosen = first_good([choice.bound for choice in choices])
    stride = list(PYRAMIDS)[chosen]
    words = {
        16: "Stride 16 would do: the objects are large.",
        8: "The usual pyramid from stride 8 is enough; a level of stride 4 would cost four times the cells.",
        4: "A level of stride 4 pays: dino_5scale, salience_detr_5scale, lsq_detr and query_det start there.",
    }
    return Advice(
        "finest_stride",
        "Finest level of the pyramid",
        "Rule of thumb: an object is asked for at the cell where its center lies, a cell asks for one object, and an "
        "object smaller than a cell does not show. The bound is the share of objects that span a cell of the finest "
        "level and get a cell of any level to themselves.",
        ("span a cell", "a finest cell each", "a cell of any level each", "cells per image"),
        choices,
        chosen,
        f"{words[stride]} Bound {percent(choices[chosen].bound)}.",
        "dino_r50",
    )


def tile_advice(table: ObjectTable, preprocessing: Preprocessing) -> Advice:
    """table: in pixels of the images on disk."""
    largest = int(table.sizes_hw.max())
    # A tile as large as the largest image is the image itself, however the aspect of the input is limited.
    whole = _tile(table, tile_statistics(table, largest, 0.0, preprocessing, STRIDE), preprocessing, "whole image")
    tilings = [tile_statistics(table, side, OVERLAP, preprocessing, STRIDE) for side in TILES_PX if side < largest]
    choices = (whole, *(_tile(table, found, preprocessing, f"{found.tile_px} px") for found in tilings))
    chosen = first_good([choice.bound for choice in choices])
    advised = (
        "Whole images are enough; tiles would gain at most a point."
        if chosen == 0
        else f"Work in tiles of {choices[chosen].name} on disk, in training (crops) as in prediction."
    )
    return Advice(
        "tiles",
        "Whole images or tiles",
        f"Tiles of so many pixels on disk, overlapping by {OVERLAP:.0%}, each resized as an image would be. The bound "
        f"is the share of objects that lie whole in a tile and whose side is at least {STRIDE} px at the input.",
        ("tiles per image", "input px per disk px", f"side >= {STRIDE} px", "whole in a tile", "most in a tile"),
        choices,
        chosen,
        f"{advised} Bound {percent(choices[chosen].bound)}.",
        "dino_r50",
    )


def _resized(preprocessing: Preprocessing, short_side: int) -> Preprocessing:
    """The same aspect limit at another size."""
    long_side = round(short_side * preprocessing.long_side / preprocessing.short_side)
    return replace(preprocessing, short_side=short_side, long_side=long_side)


def _input_size(table: ObjectTable, size: Preprocessing, base: Preprocessing) -> Choice:
    seen = table.at_input(size)
    fifth = np.quantile(seen.sides_px, 0.05)
    pixels = seen.sizes_hw.prod(axis=1).mean() / table.at_input(base).sizes_hw.prod(axis=1).mean()
    return Choice(
        f"{size.short_side} x {size.long_side}",
        share_of_side(seen, STRIDE),
        (
            percent(share_of_side(seen, 4)),
            percent(share_of_side(seen, 16)),
            f"{fifth:.1f} px",
            f"{_zoom(table, seen):.2f}",
            f"x {pixels:.2g}",
        ),
        (
            f"model.preprocessing.short_side={size.short_side}",
            f"model.preprocessing.long_side={size.long_side}",
        ),
    )


def _zoom(table: ObjectTable, seen: ObjectTable) -> float:
    """Input pixels per pixel on disk, on average over images."""
    return float(np.sqrt((seen.sizes_hw / table.sizes_hw).prod(axis=1)).mean())


def _stride(seen: ObjectTable, stride: int) -> Choice:
    strides = PYRAMIDS[stride]
    cells = sum(np.ceil(seen.sizes_hw / stride).prod(axis=1).mean() for stride in strides)
    return Choice(
        f"stride {stride}",
        pyramid_bound(seen, strides),
        (
            percent(share_of_side(seen, stride)),
            percent(share_with_own_cell(seen, strides[:1])),
            percent(share_with_own_cell(seen, strides)),
            f"{cells:,.0f}",
        ),
        (
            f"model.backbone.strides=[{', '.join(str(stride) for stride in strides[:-1])}]",
            f"model.num_levels={len(strides)}",
        ),
    )


def _tile(table: ObjectTable, found: TileStatistics, preprocessing: Preprocessing, name: str) -> Choice:
    figures = (
        f"{found.tiles:.3g}",
        f"{found.zoom:.2f}",
        percent(found.shown),
        percent(found.whole),
        str(found.most_objects),
    )
    return Choice(name, found.bound, figures, () if name == "whole image" else _crops(table, found.tile_px))


def _crops(table: ObjectTable, tile_px: int) -> tuple[str, ...]:
    """Training crops of about the tile's size, cut at the resolution on disk and mostly around objects."""
    short_side = int(np.median(table.sizes_hw.min(axis=1)))
    return (
        "data.augmentation.crop=0.5",
        "data.augmentation.crop_around_objects=0.75",
        f"data.augmentation.crop_short_sides=[{short_side}]",
        f"data.augmentation.crop_sides=[{max(1, tile_px * 3 // 4)}, {tile_px}]",
    )
