"""Who trained on tiles is told how to look at them again; nobody else hears anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from smidgen.cli.run_settings import EXPERIMENT_FILE
from smidgen.cli.training_tiles import say_training_tiles
from smidgen.data import TilingConfig
from smidgen.recipes.experiment import default_experiment, write_experiment


def run_with(folder: Path, tiling: TilingConfig | None) -> Path:
    experiment = default_experiment("dino_nano")
    (folder / "best").mkdir()
    write_experiment(replace(experiment, data=replace(experiment.data, tiling=tiling)), folder / EXPERIMENT_FILE)
    return folder


@pytest.mark.parametrize("of", ["", "best"])
def test_tiles_of_the_training_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], of: str) -> None:
    say_training_tiles(run_with(tmp_path, TilingConfig(size_px=320, overlap=0.25)) / of)
    assert capsys.readouterr().err == (
        "note: the model was trained on tiles of 320 px and is shown whole images; "
        "--tile 320 --overlap 0.25 looks at them as training did\n"
    )


def test_others_hear_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say_training_tiles(tmp_path / "a checkpoint")
    run = run_with(tmp_path, None)
    say_training_tiles(run)
    (run / EXPERIMENT_FILE).write_text("system: [unknown", encoding="utf-8")
    say_training_tiles(run)
    assert capsys.readouterr().err == ""
