"""Users' own models and parts: modules that register them are imported before a verb runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points

from smidgen.cli.failures import usage_error

ENTRY_POINT_GROUP = "smidgen.plugins"


def load_plugins(modules: Sequence[str]) -> None:
    """Import installed packages' entry points of the group "smidgen.plugins", then the named modules.

    A module is looked up in the working directory, too, as `python -m` does.
    """
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        entry_point.load()
    if modules and "" not in sys.path:
        sys.path.insert(0, "")
    for module in modules:
        _load(module)


def _load(module: str) -> None:
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(error.name + ".")):
            raise usage_error(
                f"expected the name of a module that can be imported after --plugin, got {module!r}",
                "it is looked up in the working directory and on PYTHONPATH; leave out the .py",
            ) from error
        raise
