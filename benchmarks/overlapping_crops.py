"""What cutting and merging all crops at once costs and saves against walking from patch to patch: ratios of one run.

The strip layers of Strip-MLP-T, stage by stage, on the maps of an 800 x 1333 image. The peer, written here, takes one
patch after the other through the layers and adds it in its place; both are checked to give the same answer before they
are timed.

    python benchmarks/overlapping_crops.py [--size 800x1333] [--rounds 5] [--device cpu] [--quick]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from itertools import product

import torch
from measuring import Recording, parser, recording
from torch import Tensor

from smidgen.features.strip_mlp import SIZES, STRIDES
from smidgen.nn.overlapping_crops import CropPlan, OverlappingCrops
from smidgen.nn.strip_mixing import StripBlock


def main() -> None:
    options = _options()
    with recording(__file__, options) as record:
        height, width = record.size_hw
        for stage in range(4):
            measure_stage(record, stage, (height // STRIDES[stage], width // STRIDES[stage]), options)


def measure_stage(record: Recording, stage: int, shape: tuple[int, int], options: argparse.Namespace) -> None:
    size = SIZES["strip_mlp_t"]
    channels, grid = size.channels[stage], size.grids[stage]
    block = StripBlock(channels, grid, size.groups_of(channels)).eval().to(options.device)
    features = torch.randn(options.images, channels // 2, *shape, device=options.device, requires_grad=True)
    ways: dict[str, Callable[[], Tensor]] = {
        "patch by patch": partial(patch_by_patch, block, features),
        "all at once": partial(all_at_once, block, features),
    }
    torch.testing.assert_close(ways["all at once"](), ways["patch by patch"](), atol=1e-4, rtol=1e-4)
    crops = len(OverlappingCrops.of(shape, grid).split(features.detach().cpu())) // options.images
    name = f"stage {stage + 1}, {channels} channels, {shape[0]} x {shape[1]} cells, {crops} crops of {grid} x {grid}"
    with torch.no_grad():
        record.measure(f"{name}, forward", ways, against="patch by patch", device=options.device)
    both = {way: partial(backward, call) for way, call in ways.items()}
    title = f"{name}, forward and backward"
    record.measure(title, both, against="patch by patch", memory=True, device=options.device)


def backward(call: Callable[[], Tensor]) -> None:
    call().sum().backward()


def all_at_once(block: StripBlock, features: Tensor) -> Tensor:
    """As the network does it."""
    shape = (features.shape[-2], features.shape[-1])
    crops = OverlappingCrops.of(shape, block.relate_pos_h.grid)
    return crops.merge(block.strip_layers(crops.split(features)))


def patch_by_patch(block: StripBlock, features: Tensor) -> Tensor:
    """One patch after the other, added up with 1 / count of each axis."""
    size, shape = block.relate_pos_h.grid, features.shape[-2:]
    rows, columns = (CropPlan.of(length, size) for length in shape)
    padded = torch.nn.functional.pad(features, (0, columns.missing, 0, rows.missing))
    weight = ((1 / rows.counts())[:, None] * (1 / columns.counts())).to(features.device)
    merged = torch.zeros_like(padded)
    for top, left in product(rows.starts, columns.starts):
        place = (..., slice(top, top + size), slice(left, left + size))
        merged[place] += block.strip_layers(padded[place]) * weight[place]
    return merged[..., : shape[0], : shape[1]]


def _options() -> argparse.Namespace:
    options = parser(__doc__, rounds=5, size=("800x1333", "320x448"))
    options.add_argument("--images", type=int, default=1)
    options.add_argument("--device", default="cpu")
    return options.parse_args()


if __name__ == "__main__":
    main()
