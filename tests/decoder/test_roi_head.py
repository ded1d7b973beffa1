"""Regions are read where they are, from the level that suits their size."""

from __future__ import annotations

import torch

from smidgen.decoder.roi_head import RegionHead, level_of
from smidgen.structures import FeaturePyramid
from smidgen.structures.regions import Regions

STRIDES = (4, 8, 16, 32)


def test_a_region_of_imagenets_size_is_read_at_stride_16() -> None:
    """Feature Pyramid Networks, equation 1: k = floor(4 + log2(sqrt(w h) / 224))."""
    sides = torch.tensor([8.0, 111.0, 113.0, 223.0, 225.0, 447.0, 449.0, 2000.0])
    boxes = torch.stack([torch.zeros(8), torch.zeros(8), sides, sides], dim=1)
    assert level_of(boxes, STRIDES).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def _pyramid() -> FeaturePyramid:
    """Channel 0 of each level says its x in pixels, channel 1 its level."""
    levels = []
    for index, stride in enumerate(STRIDES):
        side = 512 // stride
        x = (torch.arange(side) + 0.5) * stride
        levels.append(torch.stack([x.expand(side, side), torch.full((side, side), float(index))]).expand(2, -1, -1, -1))
    return FeaturePyramid.of(levels, torch.zeros(2, 512, 512, dtype=torch.bool), STRIDES)


def test_bins_lie_in_the_box_and_regions_keep_their_order() -> None:
    boxes = torch.tensor([[100.0, 100, 400, 420], [200, 200, 228, 228], [64, 64, 204, 204]])
    pooled = RegionHead(2, 3, STRIDES)._pooled(_pyramid(), Regions(boxes, torch.tensor([0, 0, 1]), 2))
    assert pooled[:, 1, 0, 0].tolist() == [2.0, 0.0, 1.0]
    middles = boxes[:, :1] + (torch.arange(7) + 0.5) / 7 * (boxes[:, 2:3] - boxes[:, :1])
    torch.testing.assert_close(pooled[:, 0, 3], middles, atol=0.5, rtol=0)


def test_no_region_gives_no_answer() -> None:
    answers = RegionHead(2, 3, STRIDES)(_pyramid(), Regions(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), 2))
    assert (tuple(answers.logits.shape), tuple(answers.deltas.shape)) == ((0, 4), (0, 3, 4))


def test_layers_of_half_precision_read_what_roi_align_made_of_full_precision() -> None:
    regions = Regions(torch.tensor([[100.0, 100, 400, 420]]), torch.zeros(1, dtype=torch.long), 2)
    head = RegionHead(2, 3, STRIDES)
    full, half = head(_pyramid(), regions), head.bfloat16()(_pyramid(), regions)
    assert half.logits.dtype == torch.bfloat16
    torch.testing.assert_close(half.logits.float(), full.logits, atol=0.05 * full.logits.abs().max().item(), rtol=0)
