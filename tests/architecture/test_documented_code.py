"""Python shown in the documentation runs, and the files it names exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.main import get_command

from smidgen.cli.app import app
from smidgen.data.synthetic import SceneConfig, generate
from smidgen.models import PARTS
from smidgen.structures import ImageBatch

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
SOURCE = re.compile(r"`((?:smidgen/)?(?:[a-z_]+/)+[a-z_]+\.(?:py|yaml))`")
# Files of an example that a reader would write.
IMAGINED = {"smidgen/queries/random_places.py", "tests/queries/test_random_places.py"}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def python_blocks(page: Path) -> str:
    return "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL))


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_and_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [page.parent / target for target in LINK.findall(text)]
    named = [name for name in SOURCE.findall(text) if name not in IMAGINED]
    folders = ("smidgen/", "tests/", "benchmarks/")
    sources = [ROOT / name if name.startswith(folders) else ROOT / "smidgen" / name for name in named]
    assert not [str(path) for path in [*links, *sources] if not path.exists()]


@pytest.fixture
def _parts_restored() -> Any:
    before = dict(PARTS)
    yield
    PARTS.clear()
    PARTS.update(before)


@pytest.mark.usefixtures("_parts_restored")
def test_selection_of_the_guide_runs_in_a_system() -> None:
    page = ROOT / "docs" / "adding-a-query-selection.md"
    shown: dict[str, Any] = {}
    exec(compile(python_blocks(page), str(page), "exec"), shown)
    model = shown["model"].eval()
    assert isinstance(model.selection, shown["RandomPlaces"])
    images = ImageBatch.collate([torch.randint(0, 255, (3, 96, 128), dtype=torch.uint8)])
    with torch.inference_mode():
        first, second = (model(images).token_index.sort().values for _ in range(2))
    assert first.shape == (1, 150)
    assert not torch.equal(first, second), "places by lot should differ from draw to draw"


def test_verbs_of_the_readme_exist() -> None:
    shown = set(re.findall(r"^    smidgen (\S+)", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert shown
    assert shown <= set(get_command(app).commands)


@pytest.mark.slow
def test_example_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = SceneConfig(size_wh=(96, 96), side_px=(8.0, 16.0), objects=(2, 4), classes=("car",))
    generate(tmp_path / "scenes", scenes, splits={"train": 4, "val": 2})
    monkeypatch.chdir(tmp_path)
    shown: dict[str, Any] = {}
    exec(compile(python_blocks(ROOT / "README.md"), "README.md", "exec"), shown)
    assert shown["run"].best.is_dir()
    assert shown["detections"].file.endswith(".jpg")
