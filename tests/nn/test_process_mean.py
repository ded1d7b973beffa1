"""A mean over processes, with one process."""

from __future__ import annotations

import pytest
import torch

from smidgen.nn.process_mean import process_mean


def test_one_process_keeps_its_count_as_floating_point() -> None:
    count = process_mean(torch.tensor(3))
    assert count.item() == 3
    assert count.is_floating_point()
    assert process_mean(torch.tensor(2.5, dtype=torch.float64)).dtype == torch.float64


def test_two_processes_share_their_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: total.add_(5.0))
    assert process_mean(torch.tensor(3)).item() == 4
