"""From the words of `smidgen train` to an experiment: where it begins, then flags, then single fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.cli.failures import usage_error
from smidgen.cli.output import speaks

if TYPE_CHECKING:
    from smidgen.recipes.experiment import Experiment

EXPERIMENT_FILE = "experiment.yaml"


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What an experiment is made from, before changes: a model's defaults, a recipe or a YAML file."""

    model: str | None
    recipe: str | None
    file: Path | None
    data: Path | None


def split_words(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """[MODEL] and field=value among the positional words."""
    overrides = [word for word in words if "=" in word]
    names = [word for word in words if "=" not in word]
    if len(names) > 1:
        raise usage_error(f"expected one MODEL, got {' '.join(names)}", "give fields as path.to.field=value")
    return (names[0] if names else None), overrides


def check_run_folder(out: Path, resume: bool) -> None:
    """An existing run is only touched to resume it."""
    if resume and not (out / EXPERIMENT_FILE).is_file():
        raise usage_error(f"there is no run to resume in {out}", "leave out --resume to begin one, or correct --out")
    # Under torchrun the first process makes the folder while others may still be on their way here.
    if not resume and speaks() and out.is_dir() and any(out.iterdir()):
        raise usage_error(f"{out} already exists", "add --resume to continue that run, or choose another --out")
    if out.is_file():
        raise usage_error(f"{out} is a file, not a folder", "choose another --out")


def begin(beginning: Beginning, run_to_resume: Path | None) -> Experiment:
    """The experiment before changes."""
    from smidgen.recipes.experiment import default_experiment, read_experiment
    from smidgen.recipes.named import run_recipe

    file = beginning.file or _yaml(beginning.model)
    if run_to_resume is not None:
        remedy = "leave out the model to resume this run, or choose another --out"
        return _of_system(read_experiment(run_to_resume / EXPERIMENT_FILE), beginning.model, remedy)
    if beginning.recipe is not None:
        return run_recipe(beginning.recipe, system=beginning.model, data=beginning.data)
    if file is not None:
        return _of_system(read_experiment(file), beginning.model, "leave out the model, or the file")
    if beginning.model is None:
        raise usage_error("expected a MODEL, --recipe or --experiment", "`smidgen models` lists the models")
    return default_experiment(beginning.model)


def flags_as_changes(flags: Mapping[str, Any]) -> dict[str, Any]:
    """{"training.epochs": 3, ...} as nested mappings, without flags that were not given."""
    changes: dict[str, Any] = {}
    for path, value in flags.items():
        if value is not None:
            section, name = path.split(".")
            changes.setdefault(section, {})[name] = str(value) if isinstance(value, Path) else value
    return changes


def _yaml(model: str | None) -> Path | None:
    return Path(model) if model is not None and model.endswith((".yaml", ".yml")) else None


def _of_system(experiment: Experiment, model: str | None, remedy: str) -> Experiment:
    """The experiment read from a file, unless the command names another model."""
    if model is not None and _yaml(model) is None and model != experiment.system:
        raise usage_error(f"expected {experiment.system}, the model of the experiment, got {model}", remedy)
    return experiment
