"""What we translate ourselves, run by ONNX Runtime at another size than the example's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from smidgen.boxes.suppression import suppress

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")


class Both(nn.Module):
    """Ranks with many ties, and suppression of the boxes in their order."""

    def forward(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        tied = (scores * 4).int()
        order = tied.argsort(dim=1, descending=True, stable=True)
        return order, suppress(boxes, scores, tied % 2, 2, 0.3)


def inputs(batch: int, count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    corner = torch.rand(batch, count, 2, generator=generator) * 9
    boxes = torch.cat([corner, corner + 2 + torch.rand(batch, count, 2, generator=generator) * 5], dim=2)
    return boxes, torch.rand(batch, count, generator=generator) - 0.1


def test_stable_sort_and_suppression(tmp_path: Path) -> None:
    from smidgen.export.onnx_file import OPSET, _translations

    free, file = torch.export.Dim.DYNAMIC, tmp_path / "both.onnx"
    shapes = ({0: free, 1: free}, {0: free, 1: free})
    program = torch.export.export(Both(), inputs(2, 12), dynamic_shapes=shapes, strict=False)
    made = torch.onnx.export(
        program, dynamo=True, opset_version=OPSET, custom_translation_table=_translations(), verbose=False
    )
    made.save(file)
    session = onnxruntime.InferenceSession(str(file))
    for batch, count in ((1, 30), (3, 17)):
        values = inputs(batch, count)
        names = [each.name for each in session.get_inputs()]
        order, kept = session.run(None, dict(zip(names, (each.numpy() for each in values), strict=True)))
        expected_order, expected_kept = Both()(*values)
        assert (torch.from_numpy(order) == expected_order).all()
        assert (torch.from_numpy(kept) == expected_kept).all()
        assert 0 < kept.sum() < kept.size
