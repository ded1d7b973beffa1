"""Which tiles of a large image deserve full resolution: those above which a cheap look from afar sees something.

Most tiles of an aerial image are empty. A model whose own maps say where small objects are (`object_maps`) is shown
the image at a fraction of its size; a tile is looked at where the highest score above its core reaches a threshold,
best tiles first where their number is limited. That is QueryDet's coarse-to-fine idea (Yang et al., CVPR 2022), one
step further out: from levels of a pyramid to tiles of an image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from smidgen.boxes.tiles import TilePlan
from smidgen.data.windows import WindowReader
from smidgen.inference.object_maps import ObjectMap, object_maps, why_no_object_maps
from smidgen.inference.tiling.settings import Tiling
from smidgen.structures import ImageBatch, Preprocessing

UNSEEN = -1.0
"""The score of what no cell lies above: below every threshold."""

_SHARED_BY_BLOCKS = 8  # neighbors share a part of so much of their side, since maps know least at borders


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """scale: of the look from afar, as a factor of the image's sides; its cost is about scale^2 of all tiles' cost.
    threshold: of the score from which on a tile is looked at; `smidgen.inference.guide_for_recall` chooses it by what
    it may lose. share: of an image's tiles looked at, at most, best first (None = no limit). block_px: the reduced
    image is shown in blocks of this side (None = the model's short side), which bounds memory as a tile of that size
    does. model: whose maps are read (None = the detector's own).
    """

    scale: float = 0.25
    threshold: float = 0.1
    share: float | None = None
    block_px: int | None = None
    model: nn.Module | None = None

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 1:
            raise ValueError(f"expected the guide's scale above 0 and at most 1, got {self.scale}; change --guide")
        if math.isnan(self.threshold):
            raise ValueError("expected a score from which on tiles are looked at, got nan; change --guide-threshold")
        if self.share is not None and not 0 < self.share <= 1:
            raise ValueError(
                f"expected a share of the tiles above 0 and at most 1, got {self.share}; change --guide-share"
            )
        if self.block_px is not None and self.block_px < 32:
            raise ValueError(f"expected blocks of at least 32 px, got {self.block_px}; change block_px")

    def described(self) -> dict[str, Any]:
        """For predictions.json: all but the model."""
        return {name: getattr(self, name) for name in ("scale", "threshold", "share", "block_px")}


@dataclass(slots=True)
class GuidedTiles:
    """Chooses the tiles of opened images, as `predict_tiled(choose=...)` asks for, and counts them.

    model: moved to `device` and set to evaluation mode. num_tiles, num_chosen: over all images so far. Raises
    ValueError for a model without maps.
    """

    model: nn.Module
    guide: Guide = field(default_factory=Guide)
    device: torch.device | str = "cpu"
    num_tiles: int = 0
    num_chosen: int = 0

    def __post_init__(self) -> None:
        self.model = (self.guide.model or self.model).to(self.device).eval()
        reason = why_no_object_maps(self.model)
        if reason is not None:
            raise ValueError(f"expected a model that can guide, but {reason}; give a guide model that has such maps")

    def __call__(self, reader: WindowReader, plan: TilePlan) -> Bool[Tensor, " T"]:
        """Which tiles to look at."""
        chosen = chosen_tiles(self.scores(reader, plan), self.guide)
        self.num_tiles += len(plan)
        self.num_chosen += int(chosen.sum())
        return chosen

    def to_json(self) -> dict[str, Any]:
        """The guide's settings, how many tiles it was asked about so far, and how many it had looked at."""
        return {**self.guide.described(), "tiles": self.num_tiles, "looked_at": self.num_chosen}

    def scores(self, reader: WindowReader, plan: TilePlan) -> Float[Tensor, " T"]:
        """Of each tile, the highest score of a cell that touches its core, over all levels."""
        size_hw = tuple(max(1, round(side * self.guide.scale)) for side in plan.image_hw)
        reduced = reader.reduced((size_hw[0], size_hw[1]))
        blocks = _blocks((size_hw[0], size_hw[1]), self.guide.block_px or self._preprocessing.short_side)
        found = torch.full(plan.grid_hw, UNSEEN)
        for window, core in zip(blocks.windows_xyxy.tolist(), blocks.cores_xyxy.tolist(), strict=True):
            left, top, right, bottom = window
            for one in self._maps(reduced[:, top:bottom, left:right]):
                found = found.maximum(_above_cores(one, (left, top), core, (size_hw[0], size_hw[1]), plan))
        return found.flatten()

    @torch.inference_mode()
    def _maps(self, pixels: UInt8[Tensor, "3 h w"]) -> list[ObjectMap]:
        images = ImageBatch.collate([pixels], self._preprocessing.pad_multiple).to(self.device)
        return object_maps(self.model, images)

    @property
    def _preprocessing(self) -> Preprocessing:
        config: Any = self.model.config
        preprocessing: Preprocessing = config.preprocessing
        return preprocessing


def tile_chooser(
    model: nn.Module, guide: Guide | GuidedTiles | None, tiling: Tiling | None, device: torch.device | str = "cpu"
) -> GuidedTiles | None:
    """What chooses tiles for a detector; `GuidedTiles` goes on counting, None without a guide. Raises ValueError for a
    guide where there are no tiles, and a model without maps.
    """
    if guide is not None and tiling is None:
        raise ValueError("expected tiling where a guide chooses tiles, got none; give tiling, too (--tile)")
    return GuidedTiles(model, guide, device) if isinstance(guide, Guide) else guide


def chosen_tiles(scores: Float[Tensor, " T"], guide: Guide) -> Bool[Tensor, " T"]:
    """Scores of at least the threshold; of these the best, where their share is limited (at least one tile is free)."""
    chosen = scores >= guide.threshold
    if guide.share is None:
        return chosen
    most = max(1, int(guide.share * len(scores)))
    best = torch.zeros_like(chosen)
    best[scores.argsort(descending=True, stable=True)[:most]] = True
    return chosen & best


def _blocks(size_hw: tuple[int, int], block_px: int) -> TilePlan:
    return TilePlan(size_hw, block_px, block_px // _SHARED_BY_BLOCKS)


def _above_cores(
    one: ObjectMap, corner_xy: tuple[int, int], core_xyxy: list[float], size_hw: tuple[int, int], plan: TilePlan
) -> Float[Tensor, "rows columns"]:
    """The highest score of a block's cells above each tile's core. corner_xy, core_xyxy: of the block, in pixels of the
    reduced image of `size_hw`; a cell counts in every block whose core it touches, since the cells of two blocks need
    not lie on one grid.
    """
    scores = one.scores.float().cpu()
    y, x = (
        corner_xy[1 - axis] + torch.arange(scores.shape[axis] + 1, dtype=torch.float64) * one.cell_hw[axis]
        for axis in range(2)
    )
    own = _touching(y.new_tensor(core_xyxy[1::2]), y)[0][:, None] & _touching(x.new_tensor(core_xyxy[::2]), x)[0]
    scores = scores.masked_fill(~own, UNSEEN)
    rows = _touching(plan.rows.core_borders, y * (plan.image_hw[0] / size_hw[0]))
    columns = _touching(plan.columns.core_borders, x * (plan.image_hw[1] / size_hw[1]))
    of_rows = scores.masked_fill(~rows[:, :, None], UNSEEN).amax(dim=1)
    return of_rows[:, None].masked_fill(~columns, UNSEEN).amax(dim=2)


def _touching(core_borders: Float[Tensor, " n"], borders: Float[Tensor, " m"]) -> Bool[Tensor, "cores cells"]:
    """Which cells share more than a point with which cores along one side."""
    return (core_borders[:-1, None] < borders[1:]) & (core_borders[1:, None] > borders[:-1])
