"""A benchmark's run: what was asked, on which machine, every measurement, which peers were missing; kept as JSON.

A full run replaces benchmarks/results/<script>.json, a quick one (`--quick`) writes nothing unless `--out` says where.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from measuring.measurement import Measurement
from measuring.rounds import Variants, measure, measure_long
from smidgen.checkpoints.atomic_write import write_atomically
from smidgen.training.environment import describe_machine

RESULTS = Path(__file__).parents[1] / "results"
PEERS = ("transformers", "onnxruntime", "openvino", "pycocotools", "faster-coco-eval", "sahi", "scipy")


def parser(docstring: str | None, *, rounds: int, **full_and_quick: tuple[Any, Any]) -> argparse.ArgumentParser:
    """Options that every benchmark has, and those with one default for a full run and another for a quick one."""
    options = argparse.ArgumentParser(description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="one round of something small; nothing is written")
    options.add_argument(
        "--out", type=Path, help="JSON file of the results (default: benchmarks/results, if not quick)"
    )
    defaults = {"rounds": (rounds, 1), **full_and_quick}
    for name, (full, quick) in defaults.items():
        options.add_argument(f"--{name.replace('_', '-')}", type=type(full), help=f"default {full}, quick {quick}")
    options.set_defaults(full_and_quick=defaults)
    return options


def settle(options: argparse.Namespace) -> argparse.Namespace:
    """Give what was not asked for its default of a full or a quick run."""
    for name, defaults in options.full_and_quick.items():
        if getattr(options, name) is None:
            setattr(options, name, defaults[options.quick])
    return options


class Recording:
    """Measurements of one run, printed as they come."""

    def __init__(self, name: str, options: argparse.Namespace, part: str | None = None) -> None:
        self.name, self.part, self.options = name, part, settle(options)
        self.rounds: int = options.rounds
        self.machine = describe_machine() | {"bfloat16": bfloat16_instructions(), "peers": _versions(PEERS)}
        self.measurements: list[Measurement] = []
        self.counted: list[dict[str, Any]] = []
        self.absent: list[str] = []

    def measure(
        self, name: str, variants: Variants, *, against: str, rounds: int | None = None, **settings: Any
    ) -> Measurement:
        """`measuring.measure` with the rounds that were asked for, printed and kept; a curve is saved by points."""
        found = measure(name, variants, against=against, rounds=self.rounds if rounds is None else rounds, **settings)
        self._keep(found)
        if found.at is not None:  # the last points are large, and may take more memory than there is
            self.save()
        return found

    def measure_long(self, name: str, variants: Variants, *, against: str, rounds: int = 1) -> Measurement:
        """`measuring.measure_long`, printed, kept and saved."""
        found = measure_long(name, variants, against=against, rounds=rounds)
        self._keep(found)
        self.save()
        return found

    def _keep(self, found: Measurement) -> None:
        self.measurements.append(found)
        print(found.table(), flush=True)

    def count(self, name: str, **figures: Any) -> None:
        """Print and keep what was counted or compared and not timed."""
        self.counted.append({"name": name, **figures})
        print(f"  {name}: " + ", ".join(f"{key} {_short(value)}" for key, value in figures.items()), flush=True)

    def peer(self, module: str) -> ModuleType | None:
        """A peer's module, or None, said and kept, where it is not installed."""
        try:
            return importlib.import_module(module)
        except ImportError as error:
            package = module.partition(".")[0]
            if package not in self.absent:
                self.absent.append(package)
                print(f"absent: {package} ({error}); `make bench` installs it", flush=True)
            return None

    @property
    def size_hw(self) -> tuple[int, int]:
        """`--size` as (height, width) in pixels."""
        height, width = (int(side) for side in self.options.size.split("x"))
        return height, width

    def to_json(self) -> dict[str, Any]:
        """Ready for json.dumps."""
        settings = {key: _without_folders(each) for key, each in vars(self.options).items()}
        return {
            "benchmark": self.name,
            "part": self.part,
            "settings": {key: each for key, each in settings.items() if key not in ("full_and_quick", "out")},
            "machine": self.machine,
            "absent_peers": self.absent,
            "measurements": [each.to_json() for each in self.measurements],
            "counted": self.counted,
        }

    def save(self) -> None:
        """Replace the file of the results, whole."""
        file = self.name if self.part is None else f"{self.name}_{self.part}"
        path = self.options.out or (None if self.options.quick else RESULTS / f"{file}.json")
        if path is not None:
            text = json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n"
            write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))
            print(f"written: {path}")


@contextlib.contextmanager
def recording(script: str, options: argparse.Namespace, part: str | None = None) -> Iterator[Recording]:
    """One thread, fixed random numbers, the machine in a line; saved at the end if nothing failed.

    part: where a script is so long that its parts have results of their own.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    record = Recording(Path(script).stem, options, part)
    machine = record.machine
    print(
        f"{record.name}: torch {machine['torch_build']}, {machine['cpu']}, {machine['cpus']} cores, "
        f"bf16 by {machine['bfloat16'] or 'emulation'}; one thread; ratios above 1 are faster"
    )
    yield record
    record.save()


def bfloat16_instructions() -> str | None:
    """What multiplies bfloat16 on this processor."""
    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    return "AVX512-BF16" if torch.cpu._is_avx512_bf16_supported() else None


def _versions(packages: tuple[str, ...]) -> Mapping[str, str]:
    found = {}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _without_folders(value: Any) -> Any:
    """Names of runs and data sets instead of where they lie on this machine."""
    if isinstance(value, Path):
        return value.name
    return [_without_folders(each) for each in value] if isinstance(value, list) else value


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
