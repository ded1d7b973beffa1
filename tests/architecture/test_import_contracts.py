"""Who may import whom: .importlinter holds, covers every stage folder, and is able to refuse."""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAGES = ("features", "tokens", "queries", "decoder", "assignment", "losses")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    return subprocess.run([*command, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False)


def test_contracts_hold() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


def contracts() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter", encoding="utf-8")
    return parser


@pytest.mark.parametrize("stage", STAGES)
def test_ideas_of_each_stage_are_independent(stage: str) -> None:
    section = contracts()[f"importlinter:contract:independent-{stage}"]
    assert section["type"] == "independence"
    assert section["modules"].split() == [f"smidgen.{stage}.*"]


def test_every_folder_has_a_place() -> None:
    layers = contracts()["importlinter:contract:passage"]["layers"].replace("(", "").replace(")", "").split()
    folders = {path.parent.name for path in (ROOT / "smidgen").glob("*/__init__.py")}
    assert folders <= set(layers)


@pytest.fixture
def small_house(tmp_path: Path) -> Path:
    """A package with one stage of two ideas, under the contract that the stages here are under."""
    stage = tmp_path / "house" / "queries"
    stage.mkdir(parents=True)
    for file in (stage.parent / "__init__.py", stage / "__init__.py", stage / "topk.py", stage / "stratified.py"):
        file.write_text("", encoding="utf-8")
    (tmp_path / ".importlinter").write_text(
        "[importlinter]\nroot_package = house\n\n[importlinter:contract:ideas]\nname = ideas\n"
        "type = independence\nmodules =\n    house.queries.*\n",
        encoding="utf-8",
    )
    return tmp_path


@pytest.mark.parametrize("line", ["import house.queries.topk", "from house.queries import topk"])
def test_an_idea_that_imports_its_sibling_is_refused(small_house: Path, line: str) -> None:
    assert lint(small_house).returncode == 0
    (small_house / "house/queries/stratified.py").write_text(line + "\n", encoding="utf-8")
    assert lint(small_house).returncode == 1


def test_the_detour_over_the_folder_is_refused(small_house: Path) -> None:
    queries = small_house / "house/queries"
    (queries / "topk.py").write_text("TOP = 1\n", encoding="utf-8")
    (queries / "__init__.py").write_text("from house.queries.topk import TOP\n", encoding="utf-8")
    (queries / "stratified.py").write_text("from house.queries import TOP\n", encoding="utf-8")
    assert lint(small_house).returncode == 1
