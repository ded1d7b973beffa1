from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from smidgen.__main__ import main


def test_help_and_models_answer_without_torch() -> None:
    script = (
        "import sys; from smidgen.cli.app import main; code = main(sys.argv[1:]); print('torch' in sys.modules, code)"
    )
    for arguments in (["--help"], ["models"], ["models", "--json"], ["train", "--help"], ["--version"]):
        run = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
        assert run.stdout.splitlines()[-1] == "False 0", (arguments, run.stderr)


def test_the_module_is_the_command() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "smidgen", "models", "dino_n*"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0 and run.stdout.startswith("dino_nano")


def test_models_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "dino_n*", "--json"]) == 0
    assert [model["name"] for model in json.loads(capsys.readouterr().out)["models"]] == ["dino_nano"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trainn"], "Did you mean 'train'"),
        (["train", "dino_nano"], "Missing option '--out'"),
        (["train", "dino_nano", "--out", "x", "--epochs", "many"], "--epochs"),
        (["models", "--nonsense"], "--nonsense"),
        (["synth", "x", "--size", "big"], "--size 640x480"),
        (["profile", "dino_nano", "--size", "0x10"], "at least 1x1"),
        (["convert", "nothing.pth", "--system", "dino", "--out", "x"], "nothing.pth"),
        (["--plugin", "no_such_module", "models"], "no_such_module"),
    ],
)
def test_usage_errors_are_json_without_traceback(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--json"]) == 2
    out, err = capsys.readouterr()
    assert words in json.loads(out)["error"] + json.loads(out)["hint"]
    assert "Traceback" not in err


def test_without_arguments_it_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "Usage" in capsys.readouterr().out


def test_a_plugin_adds_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_detector.py").write_text(
        "from smidgen.models import CATALOGUE, register_model\n"
        "from dataclasses import replace\n"
        "register_model('my_detector', replace(CATALOGUE['dino_nano'], about='mine'))\n"
    )
    monkeypatch.chdir(tmp_path)
    from smidgen.models import CATALOGUE

    monkeypatch.setattr("smidgen.models.CATALOGUE", dict(CATALOGUE))
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["--plugin", "my_detector", "models", "my_*"]) == 0
    assert "mine" in capsys.readouterr().out


def test_profile_counts_what_the_model_has(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["profile", "dino_nano", "--size", "64x96", "--classes", "3", "--no-latency"]
    assert main([*arguments, "--json"]) == 0
    small = json.loads(capsys.readouterr().out)
    keys = {
        "model",
        "parameters",
        "trainable_parameters",
        "gmacs",
        "gmacs_without_sampling",
        "gflops",
        "latency_ms",
        "stages",
    }
    assert keys <= set(small) and small["latency_ms"] is None
    assert small["gflops"] == pytest.approx(2 * small["gmacs"])
    assert main([*arguments, "--json", "--set", "model.num_queries=20"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] < small["parameters"]


def test_an_interruption_while_importing_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(arguments: object = None) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("smidgen.cli.app.main", interrupted)
    assert main(["models"]) == 130
