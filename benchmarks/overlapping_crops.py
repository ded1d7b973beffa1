"""What cutting and merging all crops at once costs and saves against walking from patch to patch: ratios of one run.

The strip layers of Strip-MLP-T, stage by stage, on the maps of an 800 x 1333 image. The peer, written here, takes one
patch after the other through the layers and adds it in its place; both are checked to give the same answer before they
are timed. Memory is the most that a forward and a backward pass hold at once beyond what they start with: on CUDA the
allocator's peak, elsewhere what torch's profiler saw allocated and not yet freed.

    python benchmarks/overlapping_crops.py [--size-px 800 1333] [--rounds 5] [--device cpu] [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from smidgen.features.strip_mlp import SIZES, STRIDES
from smidgen.nn.overlapping_crops import CropPlan, OverlappingCrops
from smidgen.nn.strip_mixing import StripBlock


def main() -> None:
    options = _options()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    height, width = options.size_px
    print(f"strip layers of Strip-MLP-T on {height} x {width} px, {options.device}, median of {options.rounds}")
    for stage in range(4):
        _stage(stage, (height // STRIDES[stage], width // STRIDES[stage]), options)


def _stage(stage: int, shape: tuple[int, int], options: argparse.Namespace) -> None:
    size = SIZES["strip_mlp_t"]
    channels, grid = size.channels[stage], size.grids[stage]
    block = StripBlock(channels, grid, size.groups_of(channels)).eval().to(options.device)
    features = torch.randn(options.images, channels // 2, *shape, device=options.device, requires_grad=True)
    at_once, walking = (lambda: all_at_once(block, features)), (lambda: patch_by_patch(block, features))
    torch.testing.assert_close(at_once(), walking(), atol=1e-4, rtol=1e-4)
    crops = len(OverlappingCrops.of(shape, grid).split(features.detach().cpu())) // options.images
    print(f"stage {stage + 1}: {channels} channels, {shape[0]} x {shape[1]} cells, {crops} crops of {grid} x {grid}")
    with torch.no_grad():
        _report("forward", at_once, walking, options.rounds)
    ours, peers = (lambda: at_once().sum().backward()), (lambda: walking().sum().backward())
    _report("forward and backward", ours, peers, options.rounds)
    our_peak, peer_peak = (peak_mib(call, options.device) for call in (ours, peers))
    print(f"  peak memory: {our_peak:.0f} MiB; patch by patch: {peer_peak:.0f} MiB; ratio {peer_peak / our_peak:.2f}x")


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


def peak_mib(call: Callable[[], object], device: str) -> float:
    """The most memory held at once during the call, beyond what was held before."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    # One event per allocation (positive) and per release (negative); the public list leaves out those within operators.
    changes = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes.sort(key=lambda event: event.start_ns())
    held = torch.tensor([0, *(event.nbytes() for event in changes)]).cumsum(0)
    return float(held.max()) / 2**20


def _report(name: str, ours: Callable[[], object], peers: Callable[[], object], rounds: int) -> None:
    # Taken in turns, so that a busy moment of the machine falls on both.
    pairs = [(_seconds(ours), _seconds(peers)) for _ in range(rounds + 1)][1:]
    our_time, peer_time = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = peer_time / our_time
    print(f"  {name}: {our_time * 1e3:.1f} ms; patch by patch: {peer_time * 1e3:.1f} ms; ratio {ratio:.2f}x")


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-px", type=int, nargs=2, default=(800, 1333), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="one round")
    options = parser.parse_args()
    options.rounds = 1 if options.quick else options.rounds
    return options


if __name__ == "__main__":
    main()
