"""A crop gives the dense values to keys that do not see the border, whatever else is a key."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from smidgen.nn.crop_convolution import on_crops
from smidgen.nn.sparse_convolution import Branch, Kernel, masked_dense
from smidgen.structures import Cells

WIDTH = 2


def _kernel(outputs: int, size: int = 3) -> Kernel:
    return Kernel(torch.randn(outputs, WIDTH, size, size).double(), torch.randn(outputs).double())


def test_keys_inside_get_the_dense_values_and_keys_at_the_border_those_of_a_map_padded_once() -> None:
    branches = [Branch((_kernel(WIDTH),), (_kernel(3), _kernel(2, size=1))), Branch((_kernel(WIDTH),), (_kernel(1),))]
    features = torch.randn(2, WIDTH, 9, 11).double()
    keys = Cells.where(torch.rand(2, 9, 11) < 0.4)
    inside = (keys.row >= 2) & (keys.row < 7) & (keys.column >= 2) & (keys.column < 9)
    everything = Cells.all_of(2, (9, 11))
    found = on_crops(features, branches, keys)
    for ours, dense in zip(found, masked_dense(features, branches, everything, keys), strict=True):
        torch.testing.assert_close(ours[inside], dense[inside], atol=1e-10, rtol=0)
    (first,), (prediction, _) = branches[0].tower, branches[0].predictions
    once = F.conv2d(F.conv2d(F.pad(features, (2, 2, 2, 2)), first.weight, first.bias).relu(), *prediction)
    torch.testing.assert_close(found[0], keys.read(once), atol=1e-10, rtol=0)


def test_no_keys_no_answers() -> None:
    keys = Cells.where(torch.zeros(1, 4, 4, dtype=torch.bool))
    (rows,) = on_crops(torch.zeros(1, WIDTH, 4, 4).double(), [Branch((), (_kernel(3),))], keys)
    assert rows.shape == (0, 3)
