"""On Ray Data, three workers and the driver may be killed: the rows are those of an undisturbed run of one process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from smidgen.inference.archives.ray_engine import run_on_ray

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "archives.py"


def test_missing_ray_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'smidgen\[ray\]'; --engine local does without"):
        next(run_on_ray(None, [], 1))  # type: ignore[arg-type]  it is not reached


@pytest.mark.slow
def test_killed_workers_and_driver_lose_nothing() -> None:
    """The benchmark compares the rows and the names of the broken files, and fails where they differ."""
    pytest.importorskip("ray")
    done = subprocess.run([sys.executable, BENCHMARK, "--files", "500"], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal rows: True" in done.stdout
