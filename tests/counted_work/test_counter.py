"""The instrument counts what it says, also where a loop is hidden."""

from __future__ import annotations

import torch
from counted_work.counter import flops, python_lines, tensor_work
from torch import Tensor

from smidgen.boxes.conversions import cxcywh_to_xyxy
from smidgen.nn.deformable_attention import sample_deformable


def test_bytes_are_those_alive_at_once() -> None:
    def halve_twice(values: Tensor) -> Tensor:
        return (values / 2) / 2

    work = tensor_work(halve_twice, torch.ones(100))
    assert (work.calls, work.allocated, work.peak, work.returned, work.workspace) == (2, 800, 800, 400, 400)


def test_views_and_what_is_given_cost_no_bytes() -> None:
    values = torch.ones(10, 10)
    work = tensor_work(lambda: values.t().flatten(0, 0).add_(1))
    assert work.calls > 1 and work.allocated == work.peak == 0


def test_backward_passes_are_counted() -> None:
    weight = torch.ones(3, 4, requires_grad=True)
    forward, both = (flops(lambda back=back: back((torch.ones(2, 4) @ weight.t()).sum())) for back in (_no, _yes))
    assert (forward, both) == (2 * 2 * 3 * 4, 2 * 2 * 2 * 3 * 4)


def _no(loss: Tensor) -> None: ...


def _yes(loss: Tensor) -> None:
    loss.backward()


def test_our_operators_are_looked_into() -> None:
    value, places, weights = torch.ones(1, 4, 1, 2), torch.rand(1, 3, 1, 1, 1, 2), torch.ones(1, 3, 1, 1, 1)
    work = tensor_work(sample_deformable, value, [(2, 2)], places, weights, method="embedding_bag")
    assert work.calls > 10


def test_a_loop_in_python_shows() -> None:
    boxes = torch.rand(7, 4)
    at_once = python_lines(cxcywh_to_xyxy, boxes)
    assert at_once > 0
    assert python_lines(lambda: [cxcywh_to_xyxy(box) for box in boxes]) == 7 * at_once
    assert python_lines(cxcywh_to_xyxy, boxes, leave_out=("conversions.py", "precision.py")) == 0
