"""An archive whose workers and driver are killed and whose files are broken, against one that nobody disturbs.

    python benchmarks/archives.py [--files 2000] [--engine ray] [--workers 2] [--quick]

Generated pictures of 64 x 64 px, one in a hundred of them cut short, and an untrained retinanet_nano that keeps even
its lowest scores: rows as good as any to compare. The undisturbed run is this process. In the disturbed one, three
workers of `smidgen predict` and then its driver are ended by SIGKILL, and the same command is given again. Printed:
whether all rows of both tables are equal, whether report.json names the broken files, whether a killed driver left
workers behind, and the images per second of both. --quick: 200 files, the local engine, no Ray.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from smidgen import create_model, save
from smidgen.inference.archives import Execution, predict_archive
from smidgen.models.dense_config import DenseReadoutConfig
from smidgen.structures import Preprocessing

ONE_BROKEN_IN = 100
SHARD_IMAGES = 10  # and images per batch
MOST_DETECTIONS = 5
WORKERS_KILLED = 3
SECONDS_TO_END = 60.0  # of workers whose driver was killed


def main() -> None:
    options = parsed()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(0 if compare(Path(folder), options) else 1)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--engine", choices=("local", "ray"), default="ray")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="200 files, the local engine")
    options = parser.parse_args()
    if options.quick:
        options.files, options.engine = 200, "local"
    return options


def compare(folder: Path, options: argparse.Namespace) -> bool:
    """Run both, print what came of it; whether the disturbed run lost and repeated nothing."""
    broken = write_pictures(folder / "pictures", options.files)
    undisturbed = leave_alone(folder, options.workers)
    killed, survivors = disturb(folder, options)
    report = json.loads((folder / "disturbed" / "report.json").read_text())
    same = rows(folder / "disturbed") == rows(folder / "undisturbed")
    named = {Path(entry["file"]) for entry in report["unreadable"]} == broken
    print(f"{options.files} files, {len(broken)} broken, engine {options.engine}, killed: {killed}")
    print(f"equal rows: {same} ({report['images']} images, {report['detections']} detections)")
    print(f"the report names the {len(broken)} broken files: {named}")
    print(f"workers that outlived their driver: {survivors or 'none'}")
    print(f"images per second: {undisturbed:.1f} undisturbed, {report['images_per_second']:.1f} in the last start")
    complete = report["shards_left"] == 0 and report["detections"] > 0
    return same and named and complete and not survivors


def leave_alone(folder: Path, workers: int) -> float:
    """Images per second of the undisturbed run, with a model that is saved for the other one."""
    torch.manual_seed(0)
    small = Preprocessing(short_side=64, long_side=64)
    everything = DenseReadoutConfig(score_threshold=0.0)
    model = create_model("retinanet_nano", num_classes=2, preprocessing=small, readout=everything)
    save(model, folder / "run")
    # As many threads as the workers will have: another number adds in another order.
    how = Execution(batch_size=SHARD_IMAGES, threads=max(1, (os.cpu_count() or 1) // workers))
    limits = {"score": 0.0, "max_detections": MOST_DETECTIONS, "images_per_shard": SHARD_IMAGES}
    return predict_archive(
        model, folder / "pictures", folder / "undisturbed", **limits, execution=how
    ).images_per_second


def write_pictures(folder: Path, count: int) -> set[Path]:
    """Noise that compresses little; the broken ones, of which only the first half is there, are returned."""
    folder.mkdir()
    random, broken = np.random.default_rng(0), set()
    for number in range(count):
        file = folder / f"{number:05d}.jpg"
        Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file)
        if number % ONE_BROKEN_IN == ONE_BROKEN_IN // 2:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
            broken.add(file)
    return broken


def command(folder: Path, options: argparse.Namespace) -> list[str]:
    """As a user would say it."""
    program = [sys.executable, "-m", "smidgen", "predict", str(folder / "run"), str(folder / "pictures")]
    engine = ["--out", str(folder / "disturbed"), "--engine", options.engine, "--workers", str(options.workers)]
    limits = ["--score", "0", "--max-detections", str(MOST_DETECTIONS), "--device", "cpu"]
    return [*program, *engine, *limits, "--shard-images", str(SHARD_IMAGES), "--batch-size", str(SHARD_IMAGES)]


def disturb(folder: Path, options: argparse.Namespace) -> tuple[str, list[int]]:
    """The same archive with three workers and the driver killed: what was killed, and workers that live on."""
    started = command(folder, options)
    shards, out = options.files // SHARD_IMAGES, folder / "disturbed"
    driver, killed = subprocess.Popen(started), []
    for number in range(WORKERS_KILLED):
        wait_until(lambda number=number: len(finished(out)) > shards * (number + 1) // 10, driver)
        killed.append(wait_until(lambda: kill_one(busy(out), killed), driver))
    wait_until(lambda: len(finished(out)) > shards * 6 // 10, driver)
    driver.kill()
    driver.wait()
    survivors, left = outliving(busy(out)), shards - len(finished(out))
    subprocess.run(started, check=True)
    return f"workers {', '.join(map(str, killed))}; the driver, with {left} of {shards} shards left", survivors


def kill_one(workers: list[int], already: list[int]) -> int | None:
    """The first that still lives, killed; None where there is none (its note outlives a worker for a moment)."""
    for worker in workers:
        if worker not in already:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
                return worker
    return None


def outliving(workers: list[int]) -> list[int]:
    """Those that do not end by themselves."""
    end = time.monotonic() + SECONDS_TO_END
    while (living := [worker for worker in workers if Path(f"/proc/{worker}").exists()]) and time.monotonic() < end:
        time.sleep(0.1)
    return living


def wait_until(condition: Callable[[], Any], driver: subprocess.Popen[Any]) -> Any:
    """What a condition says when it is no longer false, as long as the driver lives."""
    while not (answer := condition()):
        if driver.poll() is not None:
            raise SystemExit("the driver ended before it was to be killed; try more --files")
        time.sleep(0.01)
    return answer


def finished(out: Path) -> list[Path]:
    """Tables of finished shards."""
    return list((out / "images").glob("part-*.parquet"))


def busy(out: Path) -> list[int]:
    """Processes that have a shard in work, or died over it."""
    return [int(note.stem.split("-")[-2]) for note in sorted((out / "attempts").glob("part-*.json"))]


def rows(out: Path) -> list[Any]:
    """All rows of both tables, in the order of the shards."""
    import pyarrow.parquet as parquet

    tables = [file for name in ("images", "detections") for file in sorted((out / name).glob("part-*.parquet"))]
    return [row for file in tables for row in parquet.read_table(file).to_pylist()]


if __name__ == "__main__":
    main()
