"""Deformable attention and its layers: as many calls for a thousand queries as for ten, and memory for a chunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from counted_work.counter import TensorWork, flops, tensor_work
from torch import Tensor

from smidgen.nn import sampling_embedding_bag
from smidgen.nn.deformable_attention import DeformableAttention, sample_deformable, sampling_macs
from smidgen.nn.deformable_layers import DeformableDecoderLayer, DeformableEncoderLayer
from smidgen.nn.sampling_embedding_bag import sample_bags, sample_bags_backward
from smidgen.nn.sampling_locations import locate_samples

SHAPES = ((8, 10), (4, 5), (2, 3), (1, 2))
HEADS, POINTS, DIM = 2, 2, 4
WIDTH, FEED_FORWARD = HEADS * DIM, 16
METHODS = ("grid_sample", "embedding_bag")
MOST_CALLS_PER_LEVEL = 35
"""Forward and backward, for all images and heads by grid_sample, for one image's head by bags."""


def sampling(
    method: str, queries: int, *, batch: int = 2, levels: int = 2, learn: bool = True
) -> Callable[[], Tensor | None]:
    """One forward pass and, to learn, one backward pass."""
    shapes = SHAPES[:levels]
    value = torch.randn(batch, sum(rows * columns for rows, columns in shapes), HEADS, DIM, requires_grad=learn)
    places = torch.rand(batch, queries, HEADS, levels, POINTS, 2, requires_grad=learn)
    weights = torch.rand(batch, queries, HEADS, levels, POINTS, requires_grad=learn)

    def run() -> Tensor | None:
        output = sample_deformable(value, shapes, places, weights, method=method)
        return output.sum().backward() if learn else output

    return run


@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_sampling_calls_do_not_grow_with_queries(method: str, learn: bool) -> None:
    few, many = (tensor_work(sampling(method, queries, learn=learn)) for queries in (10, 1000))
    assert few.calls == many.calls


@pytest.mark.parametrize("method", METHODS)
def test_sampling_calls_are_bounded_by_levels(method: str) -> None:
    """A level costs a few calls more, forward and backward; images cost grid_sample none, bags as many as the first."""
    two, three, four = (tensor_work(sampling(method, 10, levels=levels)).calls for levels in (2, 3, 4))
    tables = 2 * HEADS if method == "embedding_bag" else 1
    assert four - three == three - two <= MOST_CALLS_PER_LEVEL * tables
    six_images = tensor_work(sampling(method, 10, batch=6)).calls
    assert six_images <= (3 * two if method == "embedding_bag" else two)


@pytest.mark.parametrize("method", METHODS)
def test_learning_costs_twice_the_reading(method: str) -> None:
    """FLOPs are counted by formula in both directions: a custom function that the counter cannot see into shows."""
    macs = sampling_macs(num_queries=10, num_heads=HEADS, num_levels=2, num_points=POINTS, head_dim=DIM)
    assert flops(sampling(method, 10, batch=1, learn=False)) == 2 * macs
    if method == "embedding_bag":
        assert flops(sampling(method, 10, batch=1)) == 3 * 2 * macs


@pytest.fixture
def chunks_of_32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling_embedding_bag, "QUERIES_PER_CHUNK", 32)
    monkeypatch.setattr(sampling_embedding_bag, "QUERIES_PER_CHUNK_IN_BACKWARD", 32)


def bag_inputs(
    queries: int, shapes: Sequence[tuple[int, int]] = SHAPES, heads: int = HEADS, dtype: torch.dtype = torch.float32
) -> tuple[Any, ...]:
    """Arguments of `sample_bags`."""
    value = torch.randn(2, sum(rows * columns for rows, columns in shapes), heads, DIM).to(dtype)
    places = torch.rand(2, queries, heads, len(shapes), POINTS, 2)
    return value, [size for shape in shapes for size in shape], places, torch.rand(places.shape[:-1])


@pytest.mark.usefixtures("chunks_of_32")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bags_need_memory_for_one_chunk_of_queries(dtype: torch.dtype) -> None:
    """However many queries: beside what is returned, forward and backward hold the corners of one chunk."""
    spent = {}
    for queries in (32, 128):
        inputs = bag_inputs(queries, SHAPES[1:3], dtype=dtype)
        gradient = torch.ones(2, queries, WIDTH, dtype=dtype)
        backward = tensor_work(sample_bags_backward, gradient, *inputs)
        spent[queries] = tensor_work(sample_bags, *inputs).workspace, backward.workspace
    assert min(spent[32]) > 0
    assert spent[128] == pytest.approx(spent[32], rel=0.05)


@pytest.mark.usefixtures("chunks_of_32")
def test_bags_call_once_per_chunk() -> None:
    two, three, nine = (tensor_work(sample_bags, *bag_inputs(32 * chunks, SHAPES[1:3])).calls for chunks in (2, 3, 9))
    assert nine - two == 7 * (three - two) > 0


def test_half_precision_values_become_float32_one_head_at_a_time() -> None:
    few, many = (
        tensor_work(sample_bags, *bag_inputs(1, ((40, 50),), heads=heads, dtype=torch.bfloat16)).workspace
        for heads in (2, 8)
    )
    assert 0 < many < 1.01 * few


def test_bags_hold_a_tenth_of_grid_sample_in_an_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """All cells ask with 4 points in each of 4 levels, in chunks of as large a share as at 800 x 1333 px."""
    shapes = ((50, 66), (25, 33), (13, 17), (7, 9))
    cells = sum(rows * columns for rows, columns in shapes)
    monkeypatch.setattr(sampling_embedding_bag, "QUERIES_PER_CHUNK", cells * 4096 // 22223)
    value, places = torch.randn(1, cells, 8, 16), torch.rand(1, cells, 8, 4, 4, 2)
    arguments = (value, shapes, places, torch.rand(places.shape[:-1]))
    grid, bags = (tensor_work(sample_deformable, *arguments, method=method).workspace for method in METHODS)
    assert 0 < bags < grid / 10


@pytest.mark.parametrize("coordinates", [2, 4])
def test_placing_samples_makes_little_more_than_the_places(coordinates: int) -> None:
    """Around points one result and one row of references for all heads; around boxes a product of offsets more."""
    offsets, reference = torch.randn(2, 300, 8, 4, 4, 2), torch.rand(2, 300, 4, coordinates)
    work = tensor_work(locate_samples, offsets, reference, SHAPES)
    rows = reference.nbytes * 4
    assert work.allocated <= (1 if coordinates == 2 else 2) * offsets.nbytes + rows + 1000


def encoder_step(queries: int, batch: int = 1) -> Callable[[], None]:
    """A training step of one encoder layer that refines so many tokens."""
    layer = DeformableEncoderLayer(WIDTH, HEADS, len(SHAPES), POINTS, FEED_FORWARD)
    tokens = torch.randn(batch, queries, WIDTH, requires_grad=True)
    reference = torch.rand(batch, queries, len(SHAPES), 2)
    value = torch.randn(batch, sum(rows * columns for rows, columns in SHAPES), WIDTH, requires_grad=True)
    return lambda: layer(tokens, tokens, reference, value, SHAPES, None).sum().backward()


def decoder_step(queries: int, batch: int = 1) -> Callable[[], None]:
    """A training step of one decoder layer."""
    layer = DeformableDecoderLayer(WIDTH, HEADS, len(SHAPES), POINTS, FEED_FORWARD)
    tokens = torch.randn(batch, queries, WIDTH, requires_grad=True)
    reference = torch.rand(batch, queries, len(SHAPES), 4)
    value = torch.randn(batch, sum(rows * columns for rows, columns in SHAPES), WIDTH, requires_grad=True)
    mask = torch.zeros(queries, queries, dtype=torch.bool)
    return lambda: layer(tokens, tokens, reference, value, SHAPES, None, mask).sum().backward()


@pytest.mark.parametrize("step", [encoder_step, decoder_step])
def test_a_layer_calls_as_often_for_many_queries_and_images(step: Callable[..., Callable[[], None]]) -> None:
    few, many, images = (tensor_work(step(queries, batch)) for queries, batch in ((8, 2), (200, 2), (8, 5)))
    assert few.calls == many.calls == images.calls


def test_an_encoder_layer_costs_what_its_tokens_cost() -> None:
    """Refining half as many tokens halves the work but for the projection of the values."""
    values = 3 * 2 * sum(rows * columns for rows, columns in SHAPES) * WIDTH**2
    few, many = (flops(encoder_step(queries)) - values for queries in (50, 200))
    assert many == pytest.approx(4 * few, rel=0.02)
    small, large = (bytes_of(encoder_step(queries)) for queries in (50, 200))
    assert large < 4.1 * small


def test_a_decoder_layer_is_square_in_queries_only_where_they_see_each_other() -> None:
    """Per query: projections, sampling, feed-forward; per pair of queries: two products of width, thrice to learn."""
    by_queries = [flops(decoder_step(queries)) for queries in (50, 100, 150)]
    second_difference = by_queries[2] - 2 * by_queries[1] + by_queries[0]
    assert second_difference == 2 * 50**2 * (3 * 2 * 2 * WIDTH)


def bytes_of(run: Callable[[], None]) -> int:
    return tensor_work(run).allocated


def test_unread_values_are_not_projected() -> None:
    """With few active tokens the projection multiplies those rows alone."""
    attention = DeformableAttention(WIDTH, HEADS, len(SHAPES), POINTS)
    rows = torch.randn(1, 30, WIDTH)
    assert flops(attention.project_value, rows) == 2 * 30 * WIDTH**2
    works: list[TensorWork] = [tensor_work(attention.project_value, torch.randn(1, count, WIDTH)) for count in (3, 90)]
    assert works[0].calls == works[1].calls
