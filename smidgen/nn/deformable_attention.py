"""Multi-scale deformable attention: each query reads a few weighted points of every level.

Zhu, Su, Lu, Li, Wang, Dai: Deformable DETR, ICLR 2021, equation 3. Parameter names are those of the official code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from smidgen.nn.overwriting import zeroed
from smidgen.nn.sampling_embedding_bag import sample_with_bags
from smidgen.nn.sampling_gather import sample_with_gather
from smidgen.nn.sampling_grid import sample_with_grid
from smidgen.nn.sampling_locations import locate_samples
from smidgen.nn.sampling_self_test import triton_is_trusted
from smidgen.nn.sampling_triton import attend_with_triton, explain_missing, sample_with_triton
from smidgen.nn.token_rows import on_empty_grid, rows_of
from smidgen.structures import ActiveTokens

SamplingMethod = Literal["auto", "grid_sample", "embedding_bag", "gather", "triton"]

BAG_QUERIES = 512
"""Queries from which "auto" uses bags on a CPU. Forward both ways take equal time somewhere in 100 to 450 queries (one
thread, images of 320 to 1333 px, 8 heads of 16 or 32 channels, batch 1 to 8). Forward and backward bags are 0.6 to 1.0
times as fast as grid_sample with 300 queries, 1.1 to 1.6 times with 500 and 1.3 to 2.1 times with 900 (320 px with 16
and 32 channels, 800 x 1333 px with 32; batch 1).
"""

_SAMPLERS: dict[str, Callable[..., Tensor]] = {
    "grid_sample": sample_with_grid,
    "embedding_bag": sample_with_bags,
    "gather": sample_with_gather,
    "triton": sample_with_triton,
}


def sample_deformable(
    value: Float[Tensor, "B N heads dim"],
    shapes: Sequence[tuple[int, int]],
    locations: Float[Tensor, "B Q heads L P 2"],
    weights: Float[Tensor, "B Q heads L P"],
    *,
    method: SamplingMethod = "auto",
) -> Float[Tensor, "B Q heads_times_dim"]:
    """Weighted sum of bilinear samples over levels and points, per head; heads are concatenated.

    value: the levels' cells, level 0 first, rows then columns. shapes: (rows, columns) of each level.
    locations: (x, y) in [0, 1] of each level's canvas, cell centers at (i + 0.5) / size; outside there are zeros.
    Computes in float32 at least and returns value's dtype.
    method: "grid_sample" anywhere; "embedding_bag" on a CPU, many times faster with many queries; "triton" on a GPU,
    one kernel; "gather" anywhere, slowly, without the operator GridSample; "auto" chooses by device and number of
    queries, and takes grid_sample while a model is exported.
    """
    method = _fastest(value, locations, weights) if method == "auto" else method
    return _sampler(method, value.device)(value, shapes, locations, weights)


def attend_deformable(
    value: Float[Tensor, "B N heads dim"],
    shapes: Sequence[tuple[int, int]],
    offsets: Float[Tensor, "B Q heads L P 2"],
    logits: Float[Tensor, "B Q heads L P"],
    reference: Float[Tensor, "B Q L D"],
    *,
    method: SamplingMethod = "auto",
) -> Float[Tensor, "B Q heads_times_dim"]:
    """`sample_deformable` at `locate_samples`, weighted by a softmax over each head's logits of all levels and points.

    With "triton" locations and weights are computed inside the kernel and never written out.
    """
    method = _fastest(value, offsets, logits, reference) if method == "auto" else method
    if method == "triton":
        _sampler(method, value.device)
        return attend_with_triton(value, shapes, offsets, logits, reference)
    weights = logits.flatten(3).softmax(-1).view_as(logits)
    return sample_deformable(value, shapes, locate_samples(offsets, reference, shapes), weights, method=method)


def _fastest(value: Tensor, places: Tensor, scores: Tensor, reference: Tensor | None = None) -> SamplingMethod:
    # An exported file must know only standard operators and must not be bound to its example's side of a threshold.
    if torch.compiler.is_exporting():
        return "grid_sample"
    if value.device.type == "cpu":
        return "embedding_bag" if places.shape[1] >= BAG_QUERIES else "grid_sample"
    inputs = (value, places, scores) if reference is None else (value, places, scores, reference)
    training = torch.is_grad_enabled() and any(each.requires_grad for each in inputs)
    return "triton" if _triton_will_do(value, scores, reference, training) else "grid_sample"


def _triton_will_do(value: Tensor, scores: Tensor, reference: Tensor | None, training: bool) -> bool:
    # The kernel has no deterministic gradient; who asks for one shall hear PyTorch's own words.
    if value.device.type != "cuda" or torch.are_deterministic_algorithms_enabled():
        return False
    reference_size = 0 if reference is None else reference.shape[-1]
    return triton_is_trusted(value.device, value.dtype, *scores.shape[2:], value.shape[3], reference_size, training)


def _sampler(method: str, device: torch.device) -> Callable[..., Tensor]:
    if method not in _SAMPLERS:
        raise ValueError(f"expected method to be 'auto' or one of {', '.join(map(repr, _SAMPLERS))}, got {method!r}")
    if method == "embedding_bag" and device.type != "cpu":
        raise ValueError(f"method='embedding_bag' needs a CPU, got values on {device}; use 'auto' or 'grid_sample'")
    if method == "triton" and (problem := explain_missing(device)):
        raise ValueError(f"method='triton' needs {problem}; use 'auto' or 'grid_sample'")
    return _SAMPLERS[method]


class DeformableAttention(nn.Module):
    """Attention whose sampling places and weights are predicted from the query alone.

    width: features of queries and values. num_heads: groups of channels with their own points. num_points: samples per
    head and level. method: how to sample, see `sample_deformable`; changes speed only.
    """

    def __init__(
        self,
        width: int = 256,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        *,
        method: SamplingMethod = "auto",
    ) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(
                f"expected a width divisible by the number of heads, got width={width}, num_heads={num_heads}"
            )
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        self.method: SamplingMethod = method
        self.sampling_offsets = nn.Linear(width, num_heads * num_levels * num_points * 2)
        self.attention_weights = nn.Linear(width, num_heads * num_levels * num_points)
        self.value_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Point p of head m starts p + 1 cells away in direction m of a circle of directions, all with equal weight."""
        for layer in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(self._initial_offsets().flatten())

    def forward(
        self,
        query: Float[Tensor, "B Q C"],
        reference: Float[Tensor, "B Q L D"],
        value: Float[Tensor, "B N C"],
        shapes: Sequence[tuple[int, int]],
        padding: Bool[Tensor, "B N"] | None = None,
        active: ActiveTokens | None = None,
    ) -> Float[Tensor, "B Q C"]:
        """Read `value` around `reference`: points (x, y) or boxes (cx, cy, w, h) in [0, 1] of each level's canvas.

        Offsets are in cells around a point, in half box sizes / num_points around a box. Padded values count as zero,
        and so do those that are not `active` (None = all are; else its own padding counts, and `padding` is not read).
        """
        if active is None:
            return self.read(query, reference, self.project_value(value, padding), shapes)
        return self.read(query, reference, self.project_active(rows_of(value, active.index), active, shapes), shapes)

    def project_value(
        self, value: Float[Tensor, "B N C"], padding: Bool[Tensor, "B N"] | None = None
    ) -> Float[Tensor, "B N heads dim"]:
        """Values as the heads see them. Padded rows are zeroed after the projection: its bias must not leak in."""
        projected: Tensor = self.value_proj(value)
        if padding is not None:
            projected = zeroed(projected, padding[..., None])
        return projected.view(*value.shape[:2], self.num_heads, -1)

    def project_active(
        self, rows: Float[Tensor, "B A C"], active: ActiveTokens, shapes: Sequence[tuple[int, int]]
    ) -> Float[Tensor, "B N heads dim"]:
        """`project_value` of all cells where only the active ones have a value, given as `rows`; the others are zero
        and cost no multiplication.
        """
        projected = self.project_value(rows, active.padding).flatten(2)
        grid = on_empty_grid(projected, active.index, sum(rows * columns for rows, columns in shapes))
        return grid.unflatten(2, (self.num_heads, -1))

    def read(
        self,
        query: Float[Tensor, "B Q C"],
        reference: Float[Tensor, "B Q L D"],
        projected: Float[Tensor, "B N heads dim"],
        shapes: Sequence[tuple[int, int]],
    ) -> Float[Tensor, "B Q C"]:
        """`forward` on the result of `project_value`."""
        if len(shapes) != self.num_levels:
            raise ValueError(f"expected the shapes of num_levels={self.num_levels} levels, got {len(shapes)}: {shapes}")
        axes = (*query.shape[:2], self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(query).view(*axes, 2)
        logits = self.attention_weights(query).view(axes)
        read = attend_deformable(projected, shapes, offsets, logits, reference, method=self.method)
        output: Tensor = self.output_proj(read)
        return output

    def _initial_offsets(self) -> Float[Tensor, "heads L P 2"]:
        angle = torch.arange(self.num_heads, dtype=torch.float32) * (2 * math.pi / self.num_heads)
        direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        distance = torch.arange(1, self.num_points + 1, dtype=torch.float32)
        offsets = direction[:, None, None] * distance[:, None]
        return offsets.expand(-1, self.num_levels, -1, -1)


def sampling_macs(num_queries: int, num_heads: int, num_levels: int, num_points: int, head_dim: int) -> int:
    """Multiply-adds of `sample_deformable` for one image.

    For every sample and channel: 4 for the bilinear corners and 1 for the attention weight. Finding the corners is not
    counted, as elementwise work is not counted elsewhere. `FlopCounterMode` sees the same number, times two, of every
    method; for grid_sample it must be given `sampling_grid.GRID_SAMPLE_FLOPS`.
    """
    return num_queries * num_heads * num_levels * num_points * head_dim * 5
