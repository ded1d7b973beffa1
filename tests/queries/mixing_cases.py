"""Small memories, and stages that mix patterns by them."""

from __future__ import annotations

import torch
from torch import Tensor

from smidgen.nn.conditioned_table import DenseTable, FactorizedTable
from smidgen.queries.pattern_content import PatternMixing, PatternWeights
from smidgen.structures import FeaturePyramid, Memory, Places, Tokens, evidence_of

WIDTH, NUM_LEVELS, NUM_QUERIES, NUM_PATTERNS = 32, 3, 11, 7
HEADS = {"factorized": FactorizedTable, "dense": DenseTable}


def _halved(cells: tuple[int, int], times: int) -> tuple[int, int]:
    return (-(-cells[0] // 2**times), -(-cells[1] // 2**times))


def memory_of(images: list[list[Tensor]], canvas: tuple[int, int]) -> Memory:
    """Images as one map per level, on a canvas of so many cells of the finest level; anything stands in the padding."""
    levels, masks, shapes = [], [], []
    for level in range(len(images[0])):
        shape = _halved(canvas, level)
        content, padding = 9.0 * torch.randn(len(images), WIDTH, *shape), torch.ones(len(images), *shape).bool()
        for index, maps in enumerate(images):
            rows, columns = maps[level].shape[1:]
            content[index, :, :rows, :columns] = maps[level]
            padding[index, :rows, :columns] = False
        levels.append(content.flatten(2).transpose(1, 2))
        masks.append(padding.flatten(1))
        shapes.append(shape)
    content, padding = torch.cat(levels, dim=1), torch.cat(masks, dim=1)
    share = torch.ones(len(images), len(shapes), 2)
    return Memory.of(Tokens(content, content, padding, share, tuple(shapes), (8, 16, 32, 64)[: len(shapes)]))


def image_maps(cells: tuple[int, int], seed: int = 0, num_levels: int = NUM_LEVELS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(WIDTH, *_halved(cells, level), generator=generator) for level in range(num_levels)]


def pattern_mixing(head: str = "factorized", num_levels: int = NUM_LEVELS, **options) -> PatternMixing:
    table = HEADS[head](NUM_QUERIES, NUM_PATTERNS, WIDTH)
    return PatternMixing(table, WIDTH, num_levels, extractor_width=8, **options).eval()


def any_pyramid(memory: Memory) -> FeaturePyramid:
    """Stages are given the pyramid, too; this one does not read it."""
    return FeaturePyramid((), (), (), torch.zeros(len(memory.tokens.content), 1, 1, dtype=torch.bool))


def mixed_memory(mixing: PatternMixing, images: list[list[Tensor]], canvas: tuple[int, int]) -> Memory:
    memory = memory_of(images, canvas)
    return mixing(memory, any_pyramid(memory))


def mixing_evidence(memory: Memory) -> PatternWeights:
    found = evidence_of(memory.evidence, PatternWeights)
    assert found is not None
    return found


def memory_with(weights: Tensor, patterns: Tensor) -> Memory:
    empty = torch.zeros(len(weights), 0, 1)
    tokens = Tokens(empty, empty, torch.zeros(len(weights), 0).bool(), torch.ones(len(weights), 0, 2), (), ())
    return Memory.of(tokens, PatternWeights(weights, patterns))


def places_for(num_queries: int, batch: int = 1) -> Places:
    return Places(torch.zeros(batch, num_queries, 4))
