"""What a finest level of stride 4 costs, computed densely and for 2, 5 and 10 % of its cells: tokens, MACs, seconds.

    python benchmarks/sparse_finest_level.py [--quick] [--size 800x1333] [--rounds N] [--detectors]

Two encoders over maps of noise: that of dino_5scale_nano (strides 4 to 32), and one layer of dino_5scale_r50's six
(strides 4 to 64; all six take long on a CPU, and every layer costs the same, so that the query head, counted once,
looks six times as dear as it is). The backbone, which every variant has, is neither counted nor timed. "extra" is what
a variant costs beyond the same encoder without the finest level, as a share of the dense level's extra.
--quick: the nano encoder at a quarter of the side. --detectors: multiply-adds of whole detectors instead, by stage.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from statistics import median

import torch
from measuring import Measurement, Recording, parser, recording
from torch import nn

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
ENCODERS = {"dino_5scale_nano": 2, "dino_5scale_r50": 1}
"""Number of encoder layers that are measured."""


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


@torch.no_grad()
def main() -> None:
    options = _options()
    with recording(__file__, options) as record:
        for name in ("dino_5scale_nano",) if options.quick else ENCODERS:
            if options.detectors:
                count_detectors(record, name, record.size_hw)
            else:
                measure_encoders(record, name, ENCODERS[name], record.size_hw)


def measure_encoders(record: Recording, name: str, layers: int, size_hw: tuple[int, int]) -> None:
    variants = _variants(name, layers)
    images = random_image(size_hw, torch.device("cpu"))
    calls = {variant: partial(encoder, images) for variant, encoder in variants.items()}
    title = f"encoder of {name}, {layers} layer(s), {size_hw[0]}x{size_hw[1]}"
    measured = record.measure(title, calls, against="dense")
    gmacs = {variant: count_flops(encoder, size_hw).total.gmacs()[0] for variant, encoder in variants.items()}
    for variant in variants:
        record.count(
            f"{title}, {variant}",
            tokens=_num_tokens(measured.answers[variant]),
            gmacs=gmacs[variant],
            extra_gmacs=(gmacs[variant] - gmacs["none"]) / (gmacs["dense"] - gmacs["none"]),
            extra_seconds=_extra_seconds(measured, variant),
        )


def _extra_seconds(measured: Measurement, variant: str) -> float:
    """Median over rounds of a variant's extra as a share of the dense level's."""
    rounds = zip(*(measured[each].seconds for each in (variant, "none", "dense")), strict=True)
    return median((spent - without) / (dense - without) for spent, without, dense in rounds)


def count_detectors(record: Recording, name: str, size_hw: tuple[int, int]) -> None:
    """Multiply-adds of whole detectors: what the option leaves dense (neck, proposals, decoder values) is seen here."""
    for share in (None, *SHARES):
        option = None if share is None else SparseFinestConfig(share=share)
        cost = profile(create_model(name, num_classes=91, sparse_finest=option), size_hw=size_hw, latency=False)
        stages = {stage.replace(" ", "_"): spent.gmacs for stage, spent in cost.stages.items() if spent.gmacs > 0.05}
        record.count(f"{name}, {'dense' if share is None else f'{share:.0%}'}", gmacs=cost.gmacs, **stages)


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


def _num_tokens(memory: Memory) -> int:
    """Tokens that the encoder refines."""
    level = evidence_of(memory.evidence, FinestLevel)
    every = memory.tokens.content.shape[1]
    return every if level is None else every - memory.tokens.starts[1] + level.chosen.index.shape[1]


def _options() -> argparse.Namespace:
    options = parser(__doc__, rounds=5, size=("800x1333", "200x333"))
    options.add_argument("--detectors", action="store_true")
    return options.parse_args()


if __name__ == "__main__":
    main()
