"""Two network namespaces are two hosts: what torchrun starts on them trains one model, and shares one archive."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from smidgen import create_model, save
from smidgen.data.synthetic import SceneConfig, generate
from smidgen.structures import Preprocessing

HOSTS = ("smidgen-a", "smidgen-b")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
SCRIPT = Path(__file__).parent / "two_hosts_training.py"
SCENES = SceneConfig(size_wh=(64, 64), side_px=(8.0, 16.0), objects=(2, 4), classes=("car",))

pytestmark = pytest.mark.slow


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def _two_hosts() -> Iterator[None]:
    """Namespaces with a cable between them and no other way out."""
    if shutil.which("ip") is None:
        pytest.skip("needs the command ip")
    try:
        for host in HOSTS:
            ip("netns", "add", host)
        ip("link", "add", "cable-a", "netns", HOSTS[0], "type", "veth", "peer", "name", "cable-b", "netns", HOSTS[1])
        for host, cable, address in zip(HOSTS, ("cable-a", "cable-b"), ADDRESSES, strict=True):
            ip("-n", host, "address", "add", f"{address}/24", "dev", cable)
            for device in ("lo", cable):
                ip("-n", host, "link", "set", device, "up")
    except subprocess.CalledProcessError as error:
        _remove_hosts()
        pytest.skip(f"network namespaces are not permitted here: {error.stderr.decode().strip()}")
    yield
    _remove_hosts()


def _remove_hosts() -> None:
    for host in HOSTS:
        subprocess.run(["ip", "netns", "delete", host], check=False, capture_output=True)


def on_both(*words: str) -> None:
    """torchrun with these words on both hosts; {host} is the host's number."""
    runs = []
    for rank, (host, cable) in enumerate(zip(HOSTS, ("cable-a", "cable-b"), strict=True)):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": cable}
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(rank)]
        torchrun += ["--nproc-per-node", "1", "--master-addr", ADDRESSES[0], "--master-port", "29511"]
        told = [word.format(host=rank) for word in words]
        runs.append(subprocess.Popen(["ip", "netns", "exec", host, *torchrun, *told], env=environment))
    try:
        assert [run.wait(900) for run in runs] == [0, 0]
    finally:
        for run in runs:
            _end(run)


def _end(run: subprocess.Popen[bytes]) -> None:
    """By SIGTERM first: torchrun then ends its workers, which would look for a dead host for hours."""
    run.terminate()
    try:
        run.wait(60)
    except subprocess.TimeoutExpired:
        run.kill()


@pytest.mark.usefixtures("_two_hosts")
def test_both_hosts_end_with_the_same_weights(tmp_path: Path) -> None:
    generate(tmp_path / "scenes", SCENES, splits={"train": 8, "val": 2})
    on_both(str(SCRIPT), str(tmp_path / "scenes"), str(tmp_path / "host{host}"))
    processes = [json.loads((tmp_path / f"host{host}" / "process.json").read_text()) for host in (0, 1)]
    assert [(process["RANK"], process["WORLD_SIZE"]) for process in processes] == [("0", "2"), ("1", "2")]
    first, second = (load_file(tmp_path / f"host{host}" / "weights.safetensors") for host in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    lines = [json.loads(line) for line in (tmp_path / "host0" / "metrics.jsonl").open()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 2]
    assert (tmp_path / "host0" / "last").is_dir() and not (tmp_path / "host1" / "last").exists()


@pytest.mark.usefixtures("_two_hosts")
def test_both_hosts_share_an_archive(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    generate(tmp_path / "scenes", SCENES, splits={"train": 10, "val": 1})
    small = Preprocessing(short_side=64, long_side=64)
    save(create_model("fcos_nano", num_classes=1, preprocessing=small), tmp_path / "run")
    settings = ["--engine", "local", "--shard-images", "2", "--score", "0", "--max-detections", "3", "--device", "cpu"]
    sources = str(tmp_path / "scenes" / "train")
    on_both("-m", "smidgen", "predict", str(tmp_path / "run"), sources, "--out", str(tmp_path / "out"), *settings)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["images"], report["shards"], report["shards_left"]) == (10, 5, 0)
    assert report["images_now"] < 10, "the other host did its share"
