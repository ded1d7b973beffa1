"""Two processes that share a batch do what one does with all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

from smidgen.training.processes import open_accelerator

SCRIPT = Path(__file__).parent / "distributed_stub_training.py"


def test_unknown_devices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"cpu, cuda, cuda:N or mps, got 'xpu'"), open_accelerator("xpu"):
        pass
    with pytest.raises(ValueError, match=r"CUDA devices, got 'cuda:99'"), open_accelerator("cuda:99"):
        pass


def test_the_device_can_be_chosen_again() -> None:
    for _ in range(2):
        with open_accelerator("cpu") as accelerator:
            assert (accelerator.device.type, accelerator.num_processes) == ("cpu", 1)


@pytest.mark.slow
def test_two_processes_are_one(tmp_path: Path) -> None:
    """Losses, averaged weights and evaluations agree; gloo adds in another order, so only to rounding."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*torchrun, str(SCRIPT), str(tmp_path / "two")], check=True, env=environment, timeout=300)
    subprocess.run([sys.executable, str(SCRIPT), str(tmp_path / "one")], check=True, env=environment, timeout=300)
    one, two = ([json.loads(line) for line in (tmp_path / name / "metrics.jsonl").open()] for name in ("one", "two"))
    assert [line["step"] for line in one] == [line["step"] for line in two] == [1, 2, 2, 3, 4, 4]
    for ours, theirs in zip(one, two, strict=True):
        names = ("loss", "gradient_norm") if ours["kind"] == "train" else ("metrics",)
        assert [theirs[name] for name in names] == [pytest.approx(ours[name], rel=1e-4) for name in names]
    first, second = (load_file(tmp_path / name / "last" / "model.safetensors") for name in ("one", "two"))
    for name in first:
        assert_close(first[name], second[name], rtol=1e-4, atol=1e-5)
    assert json.loads((tmp_path / "two" / "environment.json").read_text())["processes"] == 2
