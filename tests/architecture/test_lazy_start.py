"""Importing the package, its catalogue and its command line is quick: nothing heavy is loaded before it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "torchvision", "timm", "scipy", "matplotlib", "accelerate", "transformers", "hotcoco"}
REPORT = "; import sys; print(*sorted(set(name.partition('.')[0] for name in sys.modules)))"


def loaded_by(statement: str) -> set[str]:
    """Top-level packages in memory after the statement ran in a fresh interpreter."""
    result = subprocess.run([sys.executable, "-c", statement + REPORT], capture_output=True, text=True, check=True)
    return set(result.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "statement",
    [
        "import smidgen",
        "import smidgen.models",
        "import smidgen.cli",
        "import smidgen.__main__",
        "import smidgen; smidgen.list_models()",
    ],
)
def test_starts_without_heavy_packages(statement: str) -> None:
    assert not loaded_by(statement) & HEAVY


def test_the_watch_sees_torch() -> None:
    assert "torch" in loaded_by("import smidgen.structures.tokens")


@pytest.mark.parametrize("arguments", [["--help"], ["models"], ["train", "--help"]])
def test_command_line_answers_without_torch(arguments: list[str]) -> None:
    script = f"import sys; sys.argv = ['smidgen', *{arguments!r}]\nfrom smidgen.__main__ import main\n"
    script += "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
    assert not loaded_by(script + "print()" + REPORT) & HEAVY
