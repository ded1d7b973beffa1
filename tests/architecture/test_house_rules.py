"""Rules of the sources that no linter knows: docstrings, names, no subclass of ours, no path of a machine."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "smidgen").rglob("*.py"))
PYTHON = [*MODULES, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]
PAGES = [
    *ROOT.glob("*.md"),
    *ROOT.glob("*.toml"),
    *ROOT.glob("*.txt"),
    *(ROOT / "docs").rglob("*.md"),
    ROOT / "Makefile",
]
PAGES += [*ROOT.glob(".*.yaml"), ROOT / ".importlinter", ROOT / ".ci" / "run"]
HOMELESS = {"utils", "util", "misc", "common", "helpers", "helper", "legacy", "tools"}
FORBIDDEN_NAMES = {"hs", "src", "tgt", "tmp", "v2", "legacy"}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def syntax(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_module_says_its_idea(path: Path) -> None:
    docstring = ast.get_docstring(syntax(path))
    assert docstring, f"{relative(path)} has no docstring"
    assert len(docstring.split()) >= 3


def test_every_thing_has_a_home() -> None:
    parts = {part for path in PYTHON for part in path.relative_to(ROOT).with_suffix("").parts}
    assert not parts & HOMELESS


def test_test_files_have_different_names() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)


def defined_names(tree: ast.Module) -> set[str]:
    """Names of variables, parameters, functions and classes that a module makes."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
    return names


def is_forbidden(name: str) -> bool:
    trailing = name.endswith("_") and name.strip("_") != ""
    return name in FORBIDDEN_NAMES or name.startswith("new_") or (trailing and not name.endswith("__"))


def test_forbidden_names_are_recognized() -> None:
    tree = ast.parse("def f(src, tokens):\n    new_boxes = tokens\n    type_ = src\n    _ = type_\n    __all__ = []")
    assert {name for name in defined_names(tree) if is_forbidden(name)} == {"src", "new_boxes", "type_"}


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_names_are_full_words(path: Path) -> None:
    assert not {name for name in defined_names(syntax(path)) if is_forbidden(name)}


def base_name(base: ast.expr) -> str:
    """Name of a base class without its module and its type parameters."""
    expression = base.value if isinstance(base, ast.Subscript) else base
    return ast.unparse(expression).rpartition(".")[2]


def foreign_names(tree: ast.Module) -> set[str]:
    """Names that a module imports from outside the package (typing's Protocol is not ours)."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    foreign = [node for node in imports if not (node.module or "").startswith("smidgen")]
    return {alias.asname or alias.name for node in foreign for alias in node.names}


def subclasses_of_ours(trees: dict[str, ast.Module]) -> list[str]:
    """Every class whose base is a class that one of these modules defines."""
    definitions = {
        path: [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)] for path, tree in trees.items()
    }
    ours = {definition.name for module in definitions.values() for definition in module}
    return [
        f"{path}: {definition.name}({base_name(base)})"
        for path, tree in trees.items()
        for definition in definitions[path]
        for base in definition.bases
        if base_name(base) in ours - foreign_names(tree)
    ]


def test_no_class_inherits_from_one_of_ours() -> None:
    found = subclasses_of_ours({relative(path): syntax(path) for path in MODULES})
    assert not found, "a class is abstract or final: wrap or replace a part instead of subclassing it"


def test_subclass_of_ours_is_recognized() -> None:
    source = "from typing import Protocol\nclass Base(Protocol): ...\nclass Child(Base[int]): ..."
    assert subclasses_of_ours({"a.py": ast.parse(source)}) == ["a.py: Child(Base)"]


# Assembled from pieces, or this file would be its own first finding.
MACHINE_PATH = re.compile(
    r"(?<![\w./~\-])/(?:" + "|".join(["home", "root", "Users", "work", "tm" + "p", "mnt"]) + r")/\w"
)
INDEX_OPTION = re.compile("|".join(["--" + "index-url", "--" + "extra-index", "--" + "find-links", "py" + "pi\\."]))


@pytest.mark.parametrize("path", [path for path in [*PYTHON, *PAGES] if path.exists()], ids=relative)
def test_file_names_no_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not MACHINE_PATH.findall(text)
    assert not INDEX_OPTION.findall(text)


def test_machine_paths_are_recognized() -> None:
    assert MACHINE_PATH.search("open('/" + "home/someone/data')")
    assert not MACHINE_PATH.search("shared/home/page and https://host/" + "home/page")
