"""What a run ran on, so that its numbers can be understood later."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

_PACKAGES = ("smidgen", "torch", "torchvision", "timm", "accelerate", "safetensors", "numpy", "hotcoco")


def describe_environment(accelerator: Accelerator) -> dict[str, Any]:
    """`describe_machine` and what the training uses of it."""
    return describe_machine() | {"device": str(accelerator.device), "processes": accelerator.num_processes}


def describe_machine() -> dict[str, Any]:
    """Versions, processor, GPUs, threads, the package's git commit and the time, ready for JSON."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu": _processor(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "packages": {name: found for name in _PACKAGES if (found := _version(name)) is not None},
        "torch_build": torch.__version__,
        "git": _git_commit(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _git_commit() -> str | None:
    """Commit of the checkout that the package runs from, with "+" where files differ from it; None outside one."""
    folder = Path(__file__).parent
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit or _git(folder, "ls-files", Path(__file__).name) == "":
        return None
    return commit + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
