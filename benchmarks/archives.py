"""An archive whose workers and driver are killed and whose files are broken, against one that nobody disturbs.

    python benchmarks/archives.py [--files 2000] [--engine ray] [--workers 2] [--quick]

Generated pictures of 64 x 64 px, one in a hundred of them cut short, and an untrained fcos_nano, whose scores are low
but whose rows are as good as any to compare. The undisturbed run has one process. In the disturbed one, three workers
and then the driver are ended by SIGKILL, and the same command is given again. Printed: whether all rows of both tables
are equal, whether report.json names the broken files, and the images per second of both. --quick: 200 files, the local
engine, no Ray.
"""

from __future__ import annotations

import argparse
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
from smidgen.structures import Preprocessing

ONE_BROKEN_IN = 100
SHARD_IMAGES = 10
WORKERS_KILLED = 3


def main() -> None:
    options = parsed()
    os.environ["OMP_NUM_THREADS"] = "1"  # of every process: another number of threads adds in another order
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
    torch.manual_seed(0)
    small = Preprocessing(short_side=64, long_side=64)
    save(create_model("fcos_nano", num_classes=2, preprocessing=small), folder / "run")
    undisturbed = json.loads(subprocess.check_output([*command(folder, "undisturbed", "local", 1), "--json"]))
    killed = disturb(folder, options)
    report = json.loads((folder / "disturbed" / "report.json").read_text())
    same = rows(folder / "disturbed") == rows(folder / "undisturbed")
    named = {Path(entry["file"]) for entry in report["unreadable"]} == broken
    print(f"{options.files} files, {len(broken)} broken, engine {options.engine}, killed: {killed}")
    print(f"equal rows: {same} ({report['images']} images, {report['detections']} detections)")
    print(f"the report names the {len(broken)} broken files: {named}")
    print(
        f"images per second: {undisturbed['images_per_second']:.1f} undisturbed, {report['images_per_second']:.1f} last"
    )
    return same and named and report["shards_left"] == 0


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


def command(folder: Path, out: str, engine: str, workers: int) -> list[str]:
    """As a user would say it."""
    program = [sys.executable, "-m", "smidgen", "predict", str(folder / "run"), str(folder / "pictures")]
    size = str(SHARD_IMAGES)
    limits = ["--score", "0", "--max-detections", "5", "--device", "cpu", "--shard-images", size, "--batch-size", size]
    return [*program, "--out", str(folder / out), "--engine", engine, "--workers", str(workers), *limits]


def disturb(folder: Path, options: argparse.Namespace) -> str:
    """The same archive with three workers and the driver killed at different times; what was killed."""
    started = command(folder, "disturbed", options.engine, options.workers)
    shards, out = options.files // SHARD_IMAGES, folder / "disturbed"
    driver, killed = subprocess.Popen(started), []
    for number in range(WORKERS_KILLED):
        wait_until(lambda number=number: len(finished(out)) > shards * (number + 1) // 10, driver)
        wait_until(lambda: any(worker not in killed for worker in busy(out)), driver)
        killed.append(next(worker for worker in busy(out) if worker not in killed))
        os.kill(killed[-1], signal.SIGKILL)
    wait_until(lambda: len(finished(out)) > shards * 6 // 10, driver)
    driver.kill()
    driver.wait()
    left = shards - len(finished(out))
    subprocess.run(started, check=True)
    return f"workers {', '.join(map(str, killed))}; the driver, with {left} of {shards} shards left"


def wait_until(condition: Callable[[], bool], driver: subprocess.Popen[Any]) -> None:
    """Look again and again, as long as the driver lives."""
    while not condition():
        if driver.poll() is not None:
            raise SystemExit("the driver ended before it was to be killed; try more --files")
        time.sleep(0.01)


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
