"""The Triton kernels against grid_sample: under Triton's interpreter on a CPU, and on a GPU where there is one.

The interpreter must be chosen before Triton is imported, so one test here runs this file again in a process of its own;
`TRITON_INTERPRET=1 pytest tests/nn/test_sampling_triton.py` does the same by hand. Tests without a device need neither.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import jaxtyping
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from smidgen.nn import deformable_attention, sampling_self_test, sampling_triton
from smidgen.nn.deformable_attention import DeformableAttention, attend_deformable, sample_deformable, sampling_macs
from smidgen.nn.sampling_self_test import Case, largest_difference, passes, triton_is_trusted
from smidgen.nn.sampling_triton import sample_triton, sample_triton_backward

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
SHAPES = ((4, 8), (2, 4))
"""Powers of two, whose cells have exact places in [0, 1]."""

needs_interpreter = pytest.mark.skipif(not INTERPRETED, reason="runs in the process of the interpreter")
needs_triton = pytest.mark.skipif(not sampling_triton.INSTALLED, reason="needs the package triton")


@pytest.fixture(
    params=[
        pytest.param("cpu", marks=needs_interpreter),
        pytest.param("cuda", marks=[pytest.mark.gpu, needs_triton]),
    ]
)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="this is the process of the interpreter")
def test_kernels_are_right_under_the_interpreter() -> None:
    selected = ["-m", "not gpu", "-k", "cpu or well_registered"]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *selected, __file__]
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTEST_ADDOPTS": ""}
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize(
    ("heads", "levels", "points", "dim", "reference_size"), [(2, 1, 4, 8, 0), (1, 3, 3, 20, 2), (1, 5, 1, 32, 4)]
)
def test_values_and_gradients_are_those_of_grid_sample(
    device: torch.device, heads: int, levels: int, points: int, dim: int, reference_size: int
) -> None:
    case = Case(device, torch.float32, heads, levels, points, dim, reference_size, learn=True)
    assert largest_difference(case) < 1e-5


def test_double_precision_is_kept(device: torch.device) -> None:
    assert largest_difference(Case(device, torch.float64, 1, 4, 1, 4, 4, learn=True)) < 1e-12


def make_inputs(device: torch.device, dim: int = 4) -> list[Tensor]:
    """Value, locations on the corners, centers and borders of cells and half a cell outside, and weights."""
    value = torch.randn(1, sum(rows * columns for rows, columns in SHAPES), 1, dim)
    wh = torch.tensor([(columns, rows) for rows, columns in SHAPES])[:, None]
    places = torch.stack(torch.meshgrid(*[torch.arange(-1, 10) / 2] * 2, indexing="ij"), dim=-1).view(1, -1, 1, 1, 1, 2)
    locations = (places.expand(-1, -1, -1, 2, 1, -1) + torch.tensor([[[0.0]], [[-0.5]]])) / wh
    return [each.to(device) for each in (value, locations, torch.randn(locations.shape[:-1]))]


def differentiate(method: str, inputs: list[Tensor]) -> list[Tensor]:
    leaves = [each.detach().clone().requires_grad_() for each in inputs]
    value, locations, weights = leaves
    output = sample_deformable(value, SHAPES, locations, weights, method=method)
    cotangent = torch.linspace(-1, 1, output.numel()).view_as(output).to(output)
    return [output.detach(), *torch.autograd.grad(output, leaves, cotangent)]


def test_places_exactly_on_cells_and_borders_follow_grid_sample(device: torch.device) -> None:
    inputs = make_inputs(device)
    assert (inputs[1] * 8 - 0.5).frac().eq(0).any()
    torch.testing.assert_close(differentiate("triton", inputs), differentiate("grid_sample", inputs))


def test_nothing_is_read_or_learned_far_outside(device: torch.device) -> None:
    value, locations, weights = make_inputs(device)
    locations[:, :, :, 0, :, 0] = math.inf
    locations[:, :, :, 1, :, 1] = -1e30
    for result in differentiate("triton", [value, locations, weights]):
        assert torch.equal(result, torch.zeros_like(result))


def test_what_is_not_a_number_stays_with_its_query(device: torch.device) -> None:
    value, locations, weights = make_inputs(device)
    locations[0, 3, 0, 0, 0, 0] = math.nan
    output = sample_deformable(value, SHAPES, locations, weights, method="triton")
    assert output[0, 3].isnan().all()
    assert output.isnan().any(-1).sum() == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_values_are_summed_in_float32(device: torch.device, dtype: torch.dtype) -> None:
    value, *others = make_inputs(device)
    output, to_value, to_locations, _ = differentiate("triton", [value.to(dtype), *others])
    exact = sample_deformable(value.to(dtype).float(), SHAPES, *others, method="triton")
    # Triton's interpreter cuts off what a GPU rounds; sums in half precision would be further away where terms cancel.
    torch.testing.assert_close(output.float(), exact, rtol=torch.finfo(dtype).eps, atol=1e-7)
    assert (to_value.dtype, to_locations.dtype) == (dtype, torch.float32)


def test_no_queries(device: torch.device) -> None:
    value, locations, weights = make_inputs(device)
    output, to_value, *_ = differentiate("triton", [value, locations[:, :0], weights[:, :0]])
    assert output.shape == (1, 0, 4)
    assert not to_value.any()


@pytest.mark.parametrize("reference_size", [2, 4])
def test_attention_learns_the_same(device: torch.device, reference_size: int) -> None:
    attention = DeformableAttention(8, 2, 2, 2).to(device)
    nn.init.normal_(attention.sampling_offsets.weight)
    nn.init.normal_(attention.attention_weights.weight)
    query, value = torch.randn(2, 3, 8, device=device), torch.randn(2, 40, 8, device=device)
    reference = torch.rand(2, 3, 1, reference_size, device=device).expand(-1, -1, 2, -1)
    found, expected = ([], [])
    for method, results in (("triton", found), ("grid_sample", expected)):
        attention.method = method
        output = attention(query, reference.requires_grad_(), value, SHAPES)
        results += [output, *torch.autograd.grad(output.square().sum(), [*attention.parameters(), reference])]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@needs_interpreter
def test_operator_is_well_registered() -> None:
    value, places, scores = (each.requires_grad_() for each in make_inputs(torch.device("cpu"), dim=2))
    reference = torch.rand(1, 2, 2, 2, requires_grad=True)
    arguments = (value, [4, 8, 2, 4], places[:, :2].detach().requires_grad_(), scores[:, :2].detach(), reference)
    torch.library.opcheck(sample_triton, arguments, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.gpu
@needs_triton
def test_auto_takes_the_kernel_on_a_gpu_without_waiting_for_it() -> None:
    inputs = make_inputs(torch.device("cuda"))
    differentiate("auto", inputs)
    torch.cuda.set_sync_debug_mode("error")
    try:
        with FlopCounterMode(display=False) as counter:
            sample_deformable(inputs[0], SHAPES, *inputs[1:])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.ops.smidgen.sample_triton in counter.get_flop_counts()["Global"]


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> FakeTensorMode:
    """Tensors that say they are on a GPU."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    return FakeTensorMode()


@pytest.mark.parametrize(("trusted", "counted"), [(True, "sample_triton"), (False, "grid_sampler_2d")])
def test_auto_takes_the_kernel_where_it_is_trusted(
    monkeypatch: pytest.MonkeyPatch, fake_gpu: FakeTensorMode, trusted: bool, counted: str
) -> None:
    asked = []
    monkeypatch.setattr(deformable_attention, "triton_is_trusted", lambda *case: asked.append(case[1:]) or trusted)
    mapping = {torch.ops.aten.grid_sampler_2d: lambda *_, **__: 1}
    with fake_gpu, FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        value, locations, weights = make_inputs(torch.device("cuda"))
        attend_deformable(value.bfloat16(), SHAPES, locations, weights, locations[:, :, 0, :, 0])
    assert counted in str(counter.get_flop_counts()["Global"])
    assert asked[0] == (torch.bfloat16, 1, 2, 1, 4, 2, False)


def test_flops_follow_the_stated_rule(fake_gpu: FakeTensorMode) -> None:
    macs = sampling_macs(num_queries=121, num_heads=1, num_levels=2, num_points=1, head_dim=4)
    with fake_gpu, FlopCounterMode(display=False) as counter:
        value, locations, weights = make_inputs(torch.device("cuda"))
        output = sample_deformable(value, SHAPES, locations, weights, method="triton")
        assert counter.get_total_flops() == 2 * macs
        sample_triton_backward(output, value, [4, 8, 2, 4], locations, weights, None, False)
    assert counter.get_total_flops() == 6 * macs


CASE = Case(torch.device("cpu"), torch.float32, 2, 2, 1, 4, 0, learn=False)


def test_self_test_lets_right_numbers_pass(monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder) -> None:
    monkeypatch.setattr(sampling_self_test, "sample_with_triton", sampling_self_test.sample_with_grid)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        assert passes(CASE)
    assert not recwarn.list
    assert not counter.get_total_flops()


@pytest.mark.parametrize(("factor", "message"), [(1.01, "differs from grid_sample by 1.0e-02"), (math.nan, "nan")])
def test_self_test_stops_wrong_numbers(monkeypatch: pytest.MonkeyPatch, factor: float, message: str) -> None:
    def wrong(*inputs: object) -> Tensor:
        return sampling_self_test.sample_with_grid(*inputs) * factor

    monkeypatch.setattr(sampling_self_test, "sample_with_triton", wrong)
    with pytest.warns(RuntimeWarning, match=message):
        assert not passes(CASE)


def test_kernel_that_cannot_be_compiled_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*inputs: object) -> Tensor:
        raise RuntimeError("no such instruction\nand a long listing")

    monkeypatch.setattr(sampling_self_test, "_VERDICTS", {})
    monkeypatch.setattr(sampling_self_test, "_can_be_tried", lambda: True)
    monkeypatch.setattr(sampling_self_test, "sample_with_triton", fail)
    sizes = (CASE.device, CASE.dtype, CASE.heads, CASE.levels, CASE.points, CASE.dim, CASE.reference_size, CASE.learn)
    with pytest.warns(RuntimeWarning, match="no such instruction[.] grid_sample takes its place") as caught:
        assert [triton_is_trusted(*sizes) for _ in range(3)] == [False] * 3
    assert len(caught) == 1


def test_compiled_code_asks_for_trust_while_it_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(sampling_self_test, "passes", lambda case: asked.append(case) or True)
    monkeypatch.setattr(sampling_self_test, "_VERDICTS", {})
    monkeypatch.setattr(sampling_self_test, "_can_be_tried", lambda: True)

    @torch.compile(backend="eager", fullgraph=True)
    def double_if_trusted(scores: Tensor) -> Tensor:
        return scores * 2 if triton_is_trusted(scores.device, scores.dtype, *scores.shape, 4, 0, False) else scores

    assert torch.equal(double_if_trusted(torch.ones(2, 2, 1)), torch.full((2, 2, 1), 2.0))
    assert asked == [CASE]


def test_missing_triton_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling_triton, "INSTALLED", False)
    value, locations, weights = make_inputs(torch.device("cpu"))
    with pytest.raises(ValueError, match="needs the package triton, which is not installed; use 'auto'"):
        sample_deformable(value, SHAPES, locations, weights, method="triton")


@pytest.mark.skipif(INTERPRETED, reason="the interpreter runs on a CPU")
@needs_triton
def test_values_on_a_cpu_are_explained() -> None:
    value, locations, weights = make_inputs(torch.device("cpu"))
    with pytest.raises(ValueError, match="method='triton' needs a GPU, got values on cpu"):
        sample_deformable(value, SHAPES, locations, weights, method="triton")


def test_wrong_number_of_cells_is_explained() -> None:
    value, locations, weights = make_inputs(torch.device("cpu"))
    with pytest.raises(ValueError, match=r"of 40 cells, as many as in levels of .*, got 39"):
        sample_triton(value[:, 1:], [4, 8, 2, 4], locations, weights, None)


def test_no_deterministic_gradient_is_promised() -> None:
    value, locations, weights = make_inputs(torch.device("cpu"))
    gradient = torch.ones(*locations.shape[:2], 4)
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError, match="no deterministic gradient"):
            sample_triton_backward(gradient, value, [4, 8, 2, 4], locations, weights, None, False)
    finally:
        torch.use_deterministic_algorithms(False)
