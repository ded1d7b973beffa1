"""The benchmarks' own measuring: ratios within rounds, what is kept, a peer that is not there."""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from measuring import Measurement, Recording, VariantTimes, measure, measure_long, parser, peak_mib, recording  # noqa: E402


def times(name: str, *seconds: float, peak: float | None = None) -> VariantTimes:
    return VariantTimes(name=name, seconds=seconds, wall_seconds=seconds, peak_mib=peak)


def measurement(*variants: VariantTimes) -> Measurement:
    return Measurement(name="work", clock="none", against=variants[0].name, variants=variants, load=(1.0, 2.0))


def test_ratio_is_the_median_of_the_rounds_ratios() -> None:
    # A busy second round: the ratio of the medians would be 30 / 5 = 6.
    found = measurement(times("peer", 10, 90, 30), times("ours", 5, 30, 5)).ratio("ours")
    assert (found.median, found.low, found.high) == (3, 2, 6)
    assert str(found) == "3.00x (2.00-6.00)"


def test_ratio_against_another_variant() -> None:
    measured = measurement(times("peer", 8), times("plain", 4), times("ours", 1))
    assert measured.ratio("ours").median == 8
    assert measured.ratio("ours", "plain").median == 4


def test_memory_ratio_needs_both_sides() -> None:
    assert measurement(times("peer", 1, peak=100), times("ours", 1, peak=25)).memory_ratio("ours") == 0.25
    assert measurement(times("peer", 1), times("ours", 1, peak=25)).memory_ratio("ours") is None


def test_variants_take_turns_after_a_round_that_does_not_count() -> None:
    calls: list[str] = []
    variants = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    measured = measure("turns", variants, against="a", rounds=3)
    assert calls == ["a", "b", *"ab", *"ba", *"ab"]
    assert all(len(variant.seconds) == len(variant.wall_seconds) == 3 for variant in measured.variants)


def test_long_calls_are_made_once_a_round_and_nothing_before() -> None:
    calls: list[str] = []

    def call(name: str) -> str:
        calls.append(name)
        return name

    variants = {name: partial(call, name) for name in "ab"}
    measured = measure_long("long", variants, against="a", rounds=2)
    assert calls == [*"ab", *"ba"]
    assert measured.answers == {"a": "a", "b": "b"}
    assert all(len(variant.seconds) == 2 for variant in measured.variants)


def test_cpu_time_leaves_out_waiting() -> None:
    measured = measure("waiting", {"wait": lambda: time.sleep(0.2)}, against="wait", rounds=1)
    assert measured["wait"].wall_seconds[0] > 0.19
    assert measured["wait"].seconds[0] < 0.1


def test_compared_variant_must_be_among_them() -> None:
    with pytest.raises(ValueError, match=r"expected `against` to be one of \['ours'\], got 'peer'"):
        measure("work", {"ours": lambda: None}, against="peer", rounds=1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells a process's peak")
def test_peak_is_what_a_call_holds_at_once() -> None:
    def hold(mib: int) -> None:
        torch.ones(mib * 2**18)

    found = peak_mib(lambda: [hold(20), hold(40)])
    if found is None:
        pytest.skip("this system does not let a process set its peak back")
    assert 35 < found < 70


def options(*words: str) -> argparse.Namespace:
    return parser("What it does.", rounds=5).parse_args(words)


def test_full_run_has_its_rounds_and_a_quick_one_has_one(tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "found.json")]
    for words, rounds in ((out, 5), (["--quick", *out], 1), (["--quick", "--rounds", "2", *out], 2)):
        with recording("work.py", options(*words)) as record:
            assert record.rounds == rounds


def test_option_has_one_default_for_a_full_run_and_one_for_a_quick() -> None:
    sized = parser("What it does.", rounds=5, size=("800x1333", "64x96"), peer_images=(25, 3))
    for words, size_hw, images in (([], (800, 1333), 25), (["--quick"], (64, 96), 3), (["--size", "8x9"], (8, 9), 25)):
        record = Recording("work", sized.parse_args(words))
        assert record.size_hw == size_hw
        assert record.options.peer_images == images


def test_results_are_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "results" / "work.json"
    with recording("benchmarks/work.py", options("--out", str(path), "--rounds", "2")) as record:
        record.measure("adding", {"peer": lambda: sum(range(1000)), "ours": lambda: 1}, against="peer")
        record.count("adding", difference=0.5)
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert set(kept) == {"benchmark", "part", "settings", "machine", "absent_peers", "measurements", "counted"}
    assert kept["benchmark"] == "work"
    assert {"cpu", "cpus", "git", "packages", "peers", "bfloat16", "threads"} <= set(kept["machine"])
    (adding,) = kept["measurements"]
    assert set(adding) == {"name", "clock", "against", "load", "at", "variants"}
    ours = adding["variants"][1]
    assert set(ours) == {"name", "median_seconds", "ratio", "seconds", "wall_seconds", "peak_mib"}
    assert ours["ratio"]["low"] <= ours["ratio"]["median"] <= ours["ratio"]["high"]
    assert len(ours["seconds"]) == 2
    assert kept["counted"] == [{"name": "adding", "difference": 0.5}]


def test_settings_name_runs_without_their_folders(tmp_path: Path) -> None:
    with_runs = parser("What it does.", rounds=1)
    with_runs.add_argument("runs", nargs="*", type=Path)
    with_runs.add_argument("--data", type=Path)
    found = with_runs.parse_args(
        [str(tmp_path / "first"), str(tmp_path / "second"), "--data", str(tmp_path / "scenes")]
    )
    settings = Recording("work", found).to_json()["settings"]
    assert settings["runs"] == ["first", "second"]
    assert settings["data"] == "scenes"


def test_parts_of_a_script_have_files_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("measuring.record.RESULTS", tmp_path)
    for part in ("side", "batch"):
        with recording("growth.py", options(), part=part):
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["growth_batch.json", "growth_side.json"]


def test_quick_run_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("measuring.record.RESULTS", tmp_path)
    with recording("work.py", options("--quick")):
        pass
    assert not list(tmp_path.iterdir())


def test_failed_run_leaves_the_earlier_results(tmp_path: Path) -> None:
    path = tmp_path / "work.json"
    path.write_text("earlier")
    with pytest.raises(RuntimeError), recording("work.py", options("--out", str(path))):
        raise RuntimeError
    assert path.read_text() == "earlier"


def test_absent_peer_is_said_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "work.json"
    with recording("work.py", options("--quick", "--out", str(path))) as record:
        assert record.peer("no_such_library.models") is None
        assert record.peer("json") is json
    assert "absent: no_such_library" in capsys.readouterr().out
    assert json.loads(path.read_text())["absent_peers"] == ["no_such_library"]


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "results").glob("*.json")), ids=lambda path: path.stem)
def test_committed_results_name_their_machine_and_script(path: Path) -> None:
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert (ROOT / "benchmarks" / f"{kept['benchmark']}.py").exists()
    assert kept["machine"]["git"]
    assert not kept["settings"]["quick"]
