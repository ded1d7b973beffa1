"""A run that was trained on tiles says so where it is shown whole images, in which its objects are of another size."""

from __future__ import annotations

from pathlib import Path

from smidgen.cli.output import say
from smidgen.cli.run_settings import EXPERIMENT_FILE


def say_training_tiles(run: Path) -> None:
    """A line on stderr that names the options, if the run was trained on tiles and says so in its experiment."""
    from smidgen.recipes.experiment import read_experiment

    for file in (run / EXPERIMENT_FILE, run.parent / EXPERIMENT_FILE):  # of a run, or of a checkpoint in one
        if file.is_file():
            try:
                tiling = read_experiment(file).data.tiling
            except (ValueError, OSError):  # of another version; the weights are good without it
                return
            if tiling is not None:
                say(
                    f"note: the model was trained on tiles of {tiling.size_px} px and is shown whole images; "
                    f"--tile {tiling.size_px} --overlap {tiling.overlap:g} looks at them as training did"
                )
            return
