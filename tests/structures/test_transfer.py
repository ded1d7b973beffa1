"""Nothing waits for a copy to CUDA; whoever reads at once, or whose memory is read late, is waited for."""

from __future__ import annotations

import pytest
import torch

from smidgen.structures import send


@pytest.mark.parametrize(("device", "waits"), [("cuda", False), ("cuda:1", False), ("mps", True), ("cpu", True)])
def test_only_safe_copies_are_not_waited_for(device: str, waits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device, **how: asked.update(how) or tensor)
    send(torch.ones(2), device)
    send(torch.ones(2), torch.device(device))
    assert asked == {"non_blocking": not waits}


@pytest.mark.gpu
def test_what_comes_from_a_gpu_is_there() -> None:
    numbers = torch.arange(2**22, device="cuda")
    for _ in range(20):
        numbers = numbers + 1
    assert torch.equal(send(numbers, "cpu"), torch.arange(20, 2**22 + 20))
