"""What a finest level of stride 4 costs, computed densely and for 2, 5 and 10 % of its cells: tokens, MACs, seconds.

    python benchmarks/sparse_finest_level.py [--quick] [--size 800x1333] [--rounds N] [--detectors]

Two encoders over maps of noise: that of dino_5scale_nano (strides 4 to 32), and one layer of dino_5scale_r50's six
(strides 4 to 64; all six take long on a CPU, and every layer costs the same, so that the query head, counted once,
looks six times as dear as it is). The backbone, which every variant has, is neither counted nor timed. "extra" is what
a variant costs beyond the same encoder without the finest level, as a share of the dense level's extra. Seconds are of
one CPU thread without gradients; variants take turns, and a ratio is the median over rounds of the ratio within a round
(smallest and largest in brackets).
--quick: the nano encoder at a quarter of the side. --detectors: multiply-adds of whole detectors instead, by stage.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor, nn

from smidgen.evaluation.cost import profile
from smidgen.evaluation.flop_count import count_flops, random_image
from smidgen.models import configure, create_model
from smidgen.models.dino import DINOConfig
from smidgen.models.parts import deformable_encoder
from smidgen.models.sparse_finest import SparseFinestConfig, joined_encoder
from smidgen.nn.position_encoding import SinePosition
from smidgen.structures import FeaturePyramid, ImageBatch, Memory, evidence_of
from smidgen.tokens.flatten import FlattenPyramid
from smidgen.tokens.sparse_finest_level import FinestLevel

SHARES = (0.02, 0.05, 0.1)


class EncoderOfNoise(nn.Module):
    """An encoder with the flattening before it, over noise in place of a backbone's maps of the image's size."""

    def __init__(self, encoder: nn.Module, width: int, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.flatten = FlattenPyramid(width, len(strides), SinePosition(width))
        self.encoder, self.width, self.strides = encoder, width, strides

    def forward(self, images: ImageBatch) -> Memory:
        batch, _, height, width = images.pixels.shape
        levels = [
            torch.randn(batch, self.width, -(-height // stride), -(-width // stride), device=images.pixels.device)
            for stride in self.strides
        ]
        pyramid = FeaturePyramid.of(levels, images.padding, self.strides)
        memory: Memory = self.encoder(self.flatten(pyramid), pyramid)
        return memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--size", default="800x1333", help="height x width in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--detectors", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    height, width = (int(side) // (4 if options.quick else 1) for side in options.size.split("x"))
    if options.detectors:
        for name in ("dino_5scale_nano",) if options.quick else ("dino_5scale_nano", "dino_5scale_r50"):
            show_detectors(name, (height, width))
        return
    for name, layers in (
        (("dino_5scale_nano", 2),) if options.quick else (("dino_5scale_nano", 2), ("dino_5scale_r50", 1))
    ):
        show_encoders(name, layers, (height, width), options.rounds)


def show_encoders(name: str, layers: int, size_hw: tuple[int, int], rounds: int) -> None:
    variants = _variants(name, layers)
    gmacs = {variant: count_flops(encoder, size_hw).total.gmacs()[0] for variant, encoder in variants.items()}
    times = _seconds_in_turns(variants, random_image(size_hw, torch.device("cpu")), rounds)
    print(f"encoder of {name}, {layers} layer(s), {size_hw[0]} x {size_hw[1]} px, one CPU thread")
    for variant, encoder in variants.items():
        tokens = _num_tokens(encoder, size_hw)
        ratios = sorted(spent[variant] / spent["dense"] for spent in times)
        extra = (gmacs[variant] - gmacs["none"]) / (gmacs["dense"] - gmacs["none"])
        time_extra = median((spent[variant] - spent["none"]) / (spent["dense"] - spent["none"]) for spent in times)
        print(
            f"  {variant:>6}: {tokens:6d} tokens, {gmacs[variant]:7.2f} GMAC (extra {extra:6.1%}), "
            f"{median(spent[variant] for spent in times):6.2f} s, {median(ratios):5.1%} of dense "
            f"({ratios[0]:.1%} ... {ratios[-1]:.1%}; extra {time_extra:.1%})"
        )


def show_detectors(name: str, size_hw: tuple[int, int]) -> None:
    """Multiply-adds of whole detectors: what the option leaves dense (neck, proposals, decoder values) is seen here."""
    for share in (None, *SHARES):
        option = None if share is None else SparseFinestConfig(share=share)
        cost = profile(create_model(name, num_classes=91, sparse_finest=option), size_hw=size_hw, latency=False)
        stages = ", ".join(f"{stage} {spent.gmacs:.1f}" for stage, spent in cost.stages.items() if spent.gmacs > 0.05)
        print(f"{name}, {'dense' if share is None else f'{share:.0%}'}: {cost.gmacs:.1f} GMAC ({stages})")


def _variants(name: str, layers: int) -> Mapping[str, nn.Module]:
    """The encoder without the finest level, with a share of it, and with all of it."""
    config: DINOConfig = configure(name, {"num_classes": 91})
    sizes = replace(config.transformer, encoder_layers=layers)
    strides = tuple(4 * 2**level for level in range(config.num_levels))
    coarse = deformable_encoder(sizes, config.num_levels - 1)
    variants: dict[str, nn.Module] = {"none": EncoderOfNoise(coarse, sizes.width, strides[1:])}
    for share in SHARES:
        sparse = replace(config, transformer=sizes, sparse_finest=SparseFinestConfig(share=share))
        variants[f"{share:.0%}"] = EncoderOfNoise(joined_encoder(sparse), sizes.width, strides)
    variants["dense"] = EncoderOfNoise(deformable_encoder(sizes, config.num_levels), sizes.width, strides)
    return {variant: encoder.eval() for variant, encoder in variants.items()}


@torch.no_grad()
def _num_tokens(encoder: nn.Module, size_hw: tuple[int, int]) -> int:
    """Tokens that the encoder refines."""
    memory: Memory = encoder(random_image(size_hw, torch.device("cpu")))
    level = evidence_of(memory.evidence, FinestLevel)
    every = memory.tokens.content.shape[1]
    return every if level is None else every - memory.tokens.starts[1] + level.chosen.index.shape[1]


def _seconds_in_turns(variants: Mapping[str, nn.Module], images: ImageBatch, rounds: int) -> list[dict[str, float]]:
    return [{variant: _seconds(encoder, images) for variant, encoder in variants.items()} for _ in range(rounds + 1)][
        1:
    ]


@torch.no_grad()
def _seconds(encoder: nn.Module, images: ImageBatch) -> float:
    """CPU seconds of this process, since other processes may share the core."""
    start = time.process_time()
    _: Tensor = encoder(images).tokens.content
    return time.process_time() - start


if __name__ == "__main__":
    main()
