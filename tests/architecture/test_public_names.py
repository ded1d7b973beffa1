"""What is offered can be had: the names of the package and of each folder."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

import smidgen

PACKAGE = Path(smidgen.__file__).parent
FOLDERS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


@pytest.mark.parametrize("name", smidgen.__all__)
def test_public_name_resolves(name: str) -> None:
    assert getattr(smidgen, name) is not None
    assert name in dir(smidgen)


def test_unknown_name_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match=r"public names: .*create_model"):
        _ = smidgen.crate_model


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_offers_what_it_lists(folder: str) -> None:
    module = import_module(f"smidgen.{folder}")
    missing = [name for name in getattr(module, "__all__", ()) if not hasattr(module, name)]
    assert not missing


def test_package_is_marked_as_typed() -> None:
    assert (PACKAGE / "py.typed").exists()
