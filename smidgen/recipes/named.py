"""Recipes by name: a module of this folder and its function, or anybody's `module:function`."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

import smidgen.recipes
from smidgen.recipes.experiment import Experiment

Recipe = Callable[..., Experiment]

_NO_RECIPES = frozenset({"experiment", "named", "overrides", "from_scratch", "running"})


def list_recipes() -> list[str]:
    """Names for `--recipe`: "small_budget.deeppcb", or the module's alone where its function is called the same."""
    modules = [
        module.name for module in pkgutil.iter_modules(smidgen.recipes.__path__) if module.name not in _NO_RECIPES
    ]
    return sorted(name for module in modules for name in _functions(module))


def find_recipe(name: str) -> Recipe:
    """The function that a name means; ValueError lists the names where there is none."""
    if ":" in name:
        return _elsewhere(name)
    known = list_recipes()
    if name not in known:
        near = get_close_matches(name, known, n=1, cutoff=0.4)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"expected a recipe ({', '.join(known)}) or module:function, got {name!r}{meant}")
    module, _, function = name.partition(".")
    recipe: Recipe = getattr(import_module(f"smidgen.recipes.{module}"), function or module)
    return recipe


def run_recipe(name: str, *, system: str | None = None, data: Path | None = None) -> Experiment:
    """The recipe's experiment; system and data replace the recipe's own where given."""
    recipe = find_recipe(name)
    given = {key: value for key, value in (("system", system), ("data", data)) if value is not None}
    unwanted = set(given) - set(inspect.signature(recipe).parameters)
    if unwanted:
        raise ValueError(f"the recipe {name!r} chooses its {' and '.join(sorted(unwanted))} itself; leave it out")
    return recipe(**given)


def _functions(module: str) -> list[str]:
    found = import_module(f"smidgen.recipes.{module}")
    names = [
        name
        for name, value in vars(found).items()
        if inspect.isfunction(value) and value.__module__ == found.__name__ and _is_recipe(value)
    ]
    return [module if name == module else f"{module}.{name}" for name in names]


def _is_recipe(function: Callable[..., object]) -> bool:
    """Whether it returns an Experiment and can be called with nothing."""
    signature = inspect.signature(function)
    ready = all(parameter.default is not parameter.empty for parameter in signature.parameters.values())
    return ready and signature.return_annotation in (Experiment, Experiment.__name__)


def _elsewhere(name: str) -> Recipe:
    module, _, function = name.partition(":")
    try:
        recipe: Recipe = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"expected module:function of a recipe, got {name!r}: {error}") from error
    return recipe
