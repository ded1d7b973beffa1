"""Both ways of sampling against a definition written out in loops, against each other, and inside exported models.

How much work they are is counted in tests/counted_work.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from smidgen.nn import deformable_attention, sampling_embedding_bag
from smidgen.nn.deformable_attention import DeformableAttention, sample_deformable, sampling_macs
from smidgen.nn.sampling_embedding_bag import sample_bags
from smidgen.nn.sampling_grid import GRID_SAMPLE_FLOPS

METHODS = ("grid_sample", "embedding_bag")
SHAPES = ((5, 7), (3, 4), (1, 2))


@pytest.fixture
def _without_shape_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks know no symbolic sizes, cannot be compiled, and are quicker than our own errors."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def make_inputs(
    shapes: Sequence[tuple[int, int]] = SHAPES,
    *,
    batch: int = 2,
    queries: int = 11,
    heads: int = 2,
    dim: int = 3,
    points: int = 2,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Tensor]:
    """Value, locations at least 0.05 cells from where the derivative jumps and up to 3 cells outside, and weights."""
    generator = torch.Generator().manual_seed(seed)
    value = torch.randn(batch, sum(h * w for h, w in shapes), heads, dim, generator=generator)
    wh = torch.tensor([(w, h) for h, w in shapes])[:, None]
    axes = (batch, queries, heads, len(shapes), points)
    whole = (torch.rand(*axes, 2, generator=generator) * (wh + 6)).floor() - 3
    locations = (whole + 0.55 + 0.9 * torch.rand(*axes, 2, generator=generator)) / wh
    weights = torch.randn(*axes, generator=generator)
    return value.to(dtype), locations.to(dtype), weights.to(dtype)


def interleave(
    inputs: tuple[Tensor, ...], shapes: Sequence[tuple[int, int]]
) -> tuple[Tensor, Sequence[tuple[int, int]], Tensor, Tensor]:
    """The positional arguments of `sample_deformable`."""
    value, locations, weights = inputs
    return value, shapes, locations, weights


def sample_in_loops(value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    """The definition: bilinear weights of the four cells around a place; cells outside are zero."""
    output = value.new_zeros(*weights.shape[:3], value.shape[-1])
    starts = [0, *itertools.accumulate(h * w for h, w in shapes)]
    for b, q, head, level, point in itertools.product(*(range(size) for size in weights.shape)):
        rows, columns = shapes[level]
        place = locations[b, q, head, level, point]
        x, y = place[0].item() * columns - 0.5, place[1].item() * rows - 0.5
        for row, column in itertools.product((math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)):
            if 0 <= row < rows and 0 <= column < columns:
                share = (1 - abs(y - row)) * (1 - abs(x - column)) * weights[b, q, head, level, point]
                output[b, q, head] += share * value[b, starts[level] + row * columns + column, head]
    return output.flatten(2)


def differentiate(method: str, inputs: tuple[Tensor, ...], shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Output and gradients of value, locations, weights for a fixed cotangent."""
    value, locations, weights = (each.clone().requires_grad_() for each in inputs)
    output = sample_deformable(value, shapes, locations, weights, method=method)
    output.backward(torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output))
    return [output.detach(), value.grad, locations.grad, weights.grad]


@pytest.mark.parametrize("method", METHODS)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=3),
    points=st.integers(1, 2),
    seed=st.integers(0, 1000),
)
@settings(max_examples=12, deadline=None)
def test_sampling_equals_its_definition(method: str, shapes: list[tuple[int, int]], points: int, seed: int) -> None:
    inputs = make_inputs(shapes, batch=1, queries=3, points=points, seed=seed, dtype=torch.float64)
    expected = sample_in_loops(*interleave(inputs, shapes))
    torch.testing.assert_close(sample_deformable(*interleave(inputs, shapes), method=method), expected)


@given(
    shapes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4),
    queries=st.integers(1, 20),
    dim=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_methods_agree_in_values_and_gradients(
    shapes: list[tuple[int, int]], queries: int, dim: int, seed: int
) -> None:
    inputs = make_inputs(shapes, queries=queries, dim=dim, seed=seed)
    grid, bags = (differentiate(method, inputs, shapes) for method in METHODS)
    torch.testing.assert_close(bags[0], grid[0], atol=1e-5, rtol=1e-5)
    for ours, reference in zip(bags[1:], grid[1:], strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-4 * float(reference.abs().max()), rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_are_those_of_finite_differences(method: str) -> None:
    shapes = ((3, 2), (1, 2))
    inputs = make_inputs(shapes, batch=2, queries=3, heads=1, dim=2, points=1, dtype=torch.float64)

    def sample(*inputs: Tensor) -> Tensor:
        return sample_deformable(*interleave(inputs, shapes), method=method)

    assert torch.autograd.gradcheck(sample, tuple(each.requires_grad_() for each in inputs))


def test_chunks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    output, *gradients = differentiate("embedding_bag", make_inputs(), SHAPES)
    chunk_queries(monkeypatch, 4)
    by_chunks, *gradients_by_chunks = differentiate("embedding_bag", make_inputs(), SHAPES)
    assert torch.equal(by_chunks, output)
    torch.testing.assert_close(gradients_by_chunks, gradients)


def chunk_queries(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(sampling_embedding_bag, "QUERIES_PER_CHUNK", size)
    monkeypatch.setattr(sampling_embedding_bag, "QUERIES_PER_CHUNK_IN_BACKWARD", size)


@pytest.mark.parametrize("far", [1e3, -1e3, 1e30, -1e30, math.inf, -math.inf])
def test_bags_read_and_learn_nothing_far_outside(far: float) -> None:
    value, locations, weights = make_inputs()
    for axis in range(2):
        moved = locations.clone()
        moved[..., axis] = far
        for result in differentiate("embedding_bag", (value, moved, weights), SHAPES):
            assert torch.equal(result, torch.zeros_like(result))


def test_bags_pass_on_what_is_not_a_number() -> None:
    value, locations, weights = make_inputs()
    locations[0, 0, 0, 0, 0] = math.nan
    output, *_ = differentiate("embedding_bag", (value, locations, weights), SHAPES)
    assert output[0, 0].isnan().any()
    assert output[1].isfinite().all()


@pytest.mark.parametrize("method", METHODS)
def test_no_queries(method: str) -> None:
    output, to_value, *_ = differentiate(method, make_inputs(queries=0), SHAPES)
    assert output.shape == (2, 0, 6)
    assert not to_value.any()


@pytest.mark.parametrize("method", METHODS)
def test_half_precision_values_are_summed_in_float32(method: str) -> None:
    """Forward and backward: results are those of float32, rounded once."""
    value, locations, weights = make_inputs()
    output, *gradients = differentiate(method, (value.bfloat16(), locations, weights), SHAPES)
    exact, *exact_gradients = differentiate(method, (value.bfloat16().float(), locations, weights), SHAPES)
    assert torch.equal(output, exact.bfloat16())
    assert [gradient.dtype for gradient in gradients] == [torch.bfloat16, torch.float32, torch.float32]
    for ours, reference in zip(gradients, exact_gradients, strict=True):
        # The cotangent of a half precision output is rounded, too.
        torch.testing.assert_close(ours.float(), reference, rtol=2**-7, atol=2**-7 * float(reference.abs().max()))


@pytest.mark.parametrize("training", [False, True])
def test_auto_chooses_by_number_of_queries(monkeypatch: pytest.MonkeyPatch, training: bool) -> None:
    monkeypatch.setattr(deformable_attention, "BAG_QUERIES", 10)
    used = {}
    for queries in (9, 10):
        inputs = tuple(each.requires_grad_(training) for each in make_inputs(queries=queries))
        with FlopCounterMode(display=False) as counter:
            sample_deformable(*interleave(inputs, SHAPES))
        used[queries] = torch.ops.smidgen.sample_bags in counter.get_flop_counts().get("Global", {})
    assert used == {9: False, 10: True}


@pytest.mark.parametrize("method", METHODS)
def test_flop_counter_agrees_with_the_stated_rule(method: str) -> None:
    inputs = make_inputs(batch=1, queries=11, heads=2, dim=3, points=2)
    with FlopCounterMode(display=False, custom_mapping=GRID_SAMPLE_FLOPS) as counter:
        sample_deformable(*interleave(inputs, SHAPES), method=method)
    macs = sampling_macs(num_queries=11, num_heads=2, num_levels=len(SHAPES), num_points=2, head_dim=3)
    assert counter.get_total_flops() == 2 * macs == 2 * 11 * 2 * 3 * 2 * 3 * 5


def test_operator_is_well_registered() -> None:
    value, locations, weights = (each.requires_grad_() for each in make_inputs())
    torch.library.opcheck(sample_bags, (value, [size for shape in SHAPES for size in shape], locations, weights))


@pytest.mark.parametrize(
    ("method", "device", "message"), [("bags", "cpu", "'bags'"), ("embedding_bag", "meta", "needs a CPU")]
)
@pytest.mark.usefixtures("_without_shape_checks")
def test_wrong_method_is_explained(method: str, device: str, message: str) -> None:
    inputs = tuple(each.to(device) for each in make_inputs())
    with pytest.raises(ValueError, match=message):
        sample_deformable(*interleave(inputs, SHAPES), method=method)


class OnMaps(nn.Module):
    """Attention over two maps, so that an export with dynamic sizes has somewhere to read them from."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.attention = DeformableAttention(8, 2, 2, 2, method=method)
        nn.init.normal_(self.attention.sampling_offsets.weight)
        nn.init.normal_(self.attention.attention_weights.weight)

    def forward(self, query: Tensor, reference: Tensor, fine: Tensor, coarse: Tensor) -> Tensor:
        maps = (fine, coarse)
        value = torch.cat([each.flatten(2).transpose(1, 2) for each in maps], dim=1)
        return self.attention(query, reference, value, [(each.shape[2], each.shape[3]) for each in maps])


def on_maps_inputs(rows: int, columns: int, queries: int) -> tuple[Tensor, ...]:
    maps = (torch.randn(1, 8, 2 * rows, 2 * columns), torch.randn(1, 8, rows, columns))
    return torch.randn(1, queries, 8), torch.rand(1, queries, 2, 2), *maps


@pytest.mark.parametrize(
    ("method", "operator"),
    [("auto", "grid_sampler"), ("grid_sample", "grid_sampler"), ("embedding_bag", "smidgen.sample_bags")],
)
@pytest.mark.usefixtures("_without_shape_checks")
def test_export_is_right_at_another_size(method: str, operator: str) -> None:
    torch.manual_seed(0)
    model = OnMaps(method).eval()
    rows, columns, queries = (torch.export.Dim(name, min=2, max=64) for name in ("rows", "columns", "queries"))
    dynamic = ({1: queries}, {1: queries}, {2: 2 * rows, 3: 2 * columns}, {2: rows, 3: columns})
    program = torch.export.export(model, on_maps_inputs(3, 4, 5), dynamic_shapes=dynamic)
    assert operator in str(program.graph)
    other = on_maps_inputs(5, 3, 7)
    torch.testing.assert_close(program.module()(*other), model(*other), atol=1e-6, rtol=1e-5)


@pytest.mark.usefixtures("_without_shape_checks")
def test_compiled_training_step_gives_the_same_gradients() -> None:
    inputs = make_inputs()
    expected = differentiate("embedding_bag", inputs, SHAPES)
    sample = torch.compile(sample_deformable, backend="aot_eager", fullgraph=True)
    value, locations, weights = (each.clone().requires_grad_() for each in inputs)
    output = sample(value, SHAPES, locations, weights, method="embedding_bag")
    output.backward(torch.linspace(-1, 1, output.numel()).view_as(output))
    for ours, reference in zip((output, value.grad, locations.grad, weights.grad), expected, strict=True):
        torch.testing.assert_close(ours, reference)


def make_attention(**options: int) -> DeformableAttention:
    torch.manual_seed(0)
    attention = DeformableAttention(8, 2, len(SHAPES), 2, **options)
    nn.init.normal_(attention.sampling_offsets.weight)
    nn.init.normal_(attention.attention_weights.weight)
    return attention


def attention_inputs(reference_size: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    cells = sum(rows * columns for rows, columns in SHAPES)
    shapes = ((2, 5, 8), (2, 5, len(SHAPES), reference_size), (2, cells, 8))
    query, reference, value = (torch.rand(shape, generator=generator) for shape in shapes)
    return query, reference, value


def test_initial_points_lie_in_a_circle_of_directions() -> None:
    attention = DeformableAttention(16, num_heads=4, num_levels=2, num_points=3)
    offsets = attention.sampling_offsets.bias.view(4, 2, 3, 2)
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    for point in range(3):
        torch.testing.assert_close(offsets[:, 1, point], directions * (point + 1), atol=1e-6, rtol=0)
    assert not attention.sampling_offsets.weight.any()
    assert not attention.attention_weights.weight.any()


def test_parameter_names_are_the_official_ones() -> None:
    names = {name.split(".")[0] for name, _ in DeformableAttention().named_parameters()}
    assert names == {"sampling_offsets", "attention_weights", "value_proj", "output_proj"}


def test_offsets_are_cells_around_points_and_shares_of_boxes() -> None:
    attention = make_attention()
    query, boxes, value = attention_inputs(4)
    # A box is worth the point at its center if half its size over the number of points is one cell of each level.
    cells = torch.tensor([(columns, rows) for rows, columns in SHAPES])
    boxes[..., 2:] = 2 * attention.num_points / cells
    by_box = attention(query, boxes, value, SHAPES)
    torch.testing.assert_close(by_box, attention(query, boxes[..., :2], value, SHAPES))


def test_padded_values_are_not_read() -> None:
    attention = make_attention()
    nn.init.ones_(attention.value_proj.bias)
    query, reference, value = attention_inputs(2)
    padding = torch.zeros(value.shape[:2], dtype=torch.bool)
    padding[1, 10:] = True
    output = attention(query, reference, value, SHAPES, padding)
    value[padding] = 1e6
    assert torch.equal(attention(query, reference, value, SHAPES, padding), output)
    nothing = attention(query, reference, value, SHAPES, torch.ones_like(padding))
    torch.testing.assert_close(nothing, attention.output_proj.bias.expand_as(nothing))


def test_reading_a_projected_value_is_the_same() -> None:
    attention = make_attention()
    query, reference, value = attention_inputs(2)
    projected = attention.project_value(value)
    expected = attention(query, reference, value, SHAPES)
    assert torch.equal(attention.read(query, reference, projected, SHAPES), expected)


@pytest.mark.parametrize("method", METHODS)
def test_autocast_stays_close_to_float32(method: str) -> None:
    attention = make_attention(method=method)
    query, reference, value = attention_inputs(2)
    expected = attention(query, reference, value, SHAPES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = attention(query, reference, value, SHAPES)
    torch.testing.assert_close(output.float(), expected, atol=0.05, rtol=0.05)


def test_wrong_sizes_are_explained() -> None:
    with pytest.raises(ValueError, match="width=10, num_heads=4"):
        DeformableAttention(10, num_heads=4)
    query, reference, value = attention_inputs(2)
    with pytest.raises(ValueError, match="num_levels=3 levels, got 2"):
        make_attention()(query, reference, value, SHAPES[:2])


def test_layers_inside_may_have_backward_hooks() -> None:
    layer = DeformableAttention(8, 2, 1, 2)
    layer.value_proj.register_full_backward_hook(lambda *_: None)
    value, query, reference = (torch.randn(1, 6, 8, requires_grad=True) for _ in range(3))
    padding = torch.zeros(1, 6, dtype=torch.bool)
    layer(query, reference[..., None, :2].sigmoid(), value, ((2, 3),), padding).sum().backward()
    assert value.grad is not None
