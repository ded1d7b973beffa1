"""Optional packages: here, or an error that says which extra brings them."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def required(package: str, extra: str) -> ModuleType:
    """The package. Errors: ValueError that names the extra."""
    try:
        return import_module(package)
    except ImportError as error:
        raise ValueError(
            f"expected the package {package} to be installed for this format; pip install 'smidgen[{extra}]'"
        ) from error
