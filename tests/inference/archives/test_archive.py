"""An archive is finished, whatever is killed, broken or changed on the way, and says every row once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from archive_run import SlowBrightSpot
from bright_spot import BrightSpot, write_spot

from smidgen.inference import predict, prediction_record
from smidgen.inference.archives import (
    Execution,
    Share,
    coco_results,
    predict_archive,
    write_coco_results,
    write_predictions,
)
from smidgen.inference.archives.attempts import MOST_ATTEMPTS
from smidgen.inference.archives.parquet_shards import DETECTIONS, IMAGES, all_rows
from smidgen.inference.archives.storage import open_storage

pytest.importorskip("pyarrow")
PROGRAM = Path(__file__).parent / "archive_run.py"
FILES = 7


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six pictures with a spot each, and one file that is no picture."""
    folder = tmp_path / "photos"
    for number in range(FILES - 1):
        write_spot(folder / f"{number}.png", box=(8 * number, 8, 8 * number + 6, 14))
    (folder / "3b.jpg").write_bytes(b"no picture at all")
    return folder


def rows(out: Path | str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    storage = open_storage(out)
    return list(all_rows(storage, IMAGES)), list(all_rows(storage, DETECTIONS))


def test_tables_say_what_predict_says(photos: Path, tmp_path: Path) -> None:
    report = predict_archive(BrightSpot(), photos, tmp_path / "out", images_per_shard=3)
    assert (report.files, report.images, report.detections, report.shards_left) == (FILES, FILES - 1, FILES - 1, 0)
    assert [Path(one["file"]).name for one in report.unreadable] == ["3b.jpg"]
    assert "not a picture" in report.unreadable[0]["reason"]
    assert json.loads((tmp_path / "out" / "report.json").read_text())["images"] == FILES - 1
    write_predictions(tmp_path / "out", tmp_path / "predictions.json")
    written = json.loads((tmp_path / "predictions.json").read_text())["images"]
    alone = [prediction_record(one) for one in predict(BrightSpot(), photos, on_unreadable=lambda error: None)]
    assert [image for image in written if "error" not in image] == alone
    assert [Path(image["file"]).name for image in written if "error" in image] == ["3b.jpg"]


def test_coco_results_take_the_ids_of_a_ground_truth(photos: Path, tmp_path: Path) -> None:
    predict_archive(BrightSpot(), photos / "1.png", tmp_path / "out")
    assert list(coco_results(tmp_path / "out")) == [
        {"image_id": 0, "category_id": 7, "bbox": [8.0, 8.0, 6.0, 6.0], "score": 0.9}
    ]
    write_coco_results(tmp_path / "out", tmp_path / "coco.json", {str(photos / "1.png"): 41})
    assert json.loads((tmp_path / "coco.json").read_text())[0]["image_id"] == 41
    with pytest.raises(ValueError, match=r"an image id for every file of the archive, got none for .*1\.png"):
        list(coco_results(tmp_path / "out", {}))


def test_a_second_start_does_nothing_again(photos: Path, tmp_path: Path) -> None:
    predict_archive(BrightSpot(), photos, tmp_path / "out", images_per_shard=2)
    before, model = rows(tmp_path / "out"), BrightSpot()
    write_spot(photos / "later.png")
    report = predict_archive(model, photos, tmp_path / "out")
    assert model.batch_sizes == []
    assert (report.images_now, report.images) == (0, FILES - 1)
    assert rows(tmp_path / "out") == before


def until(condition: Callable[[], Any]) -> Any:
    """What a condition says when it is no longer false; on a busy machine after minutes, but not never."""
    end = time.monotonic() + 600
    while not (answer := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return answer


def test_a_killed_run_goes_on(photos: Path, tmp_path: Path) -> None:
    """kill -9 between the first shard and the last: the next start makes what is missing, and nothing else."""
    for number in range(20):
        write_spot(photos / f"more{number:02d}.png")
    predict_archive(SlowBrightSpot(), photos, tmp_path / "undisturbed", images_per_shard=2)
    out = tmp_path / "out"
    run = subprocess.Popen([sys.executable, PROGRAM, photos, out, "1"], env=environment())
    until(lambda: len(open_storage(out).names(IMAGES)) >= 3)
    run.send_signal(signal.SIGKILL)
    run.wait()
    finished = len(open_storage(out).names(IMAGES))
    assert 3 <= finished < 14, "it should have been killed in the middle"
    assert open_storage(out).names("attempts"), "whoever is killed leaves a note"
    model = SlowBrightSpot()
    report = predict_archive(model, photos, out)
    assert report.complete and report.images_now == 27 - 2 * finished
    assert rows(out) == rows(tmp_path / "undisturbed")
    assert not list(out.rglob(".partial*"))
    assert not open_storage(out).names("attempts")


def environment() -> dict[str, str]:
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}


@pytest.mark.parametrize("change", ["model", "score", "sources", "images_per_shard"])
def test_a_changed_start_is_refused(photos: Path, tmp_path: Path, change: str) -> None:
    predict_archive(BrightSpot(), photos, tmp_path / "out", images_per_shard=2)
    model = SlowBrightSpot() if change == "model" else BrightSpot()
    sources = photos / "1.png" if change == "sources" else photos
    settings: dict[str, Any] = {"score": {"score": 0.5}, "images_per_shard": {"images_per_shard": 5}}.get(change, {})
    remedy = {"model": "its weights", "score": "--score 0.3, now 0.5", "sources": "SOURCES"}
    with pytest.raises(ValueError, match=remedy.get(change, "--shard-images 2, now 5")):
        predict_archive(model, sources, tmp_path / "out", **settings)


def test_an_archive_in_an_object_store(photos: Path) -> None:
    store = fsspec.filesystem("memory")
    for file in photos.iterdir():
        store.pipe_file(f"/bucket/in/{file.name}", file.read_bytes())
    report = predict_archive(BrightSpot(), "memory://bucket/in/*.*g", "memory://bucket/out", images_per_shard=2)
    assert (report.images, len(report.unreadable), report.shards) == (FILES - 1, 1, 4)
    assert report.unreadable[0]["file"] == "memory:///bucket/in/3b.jpg"
    images, detections = rows("memory://bucket/out")
    assert [row["image_id"] for row in images] == list(range(FILES))
    assert len(detections) == FILES - 1
    again = predict_archive(BrightSpot(), "memory://bucket/in/*.*g", "memory://bucket/out")
    assert again.images_now == 0


def test_shares_are_disjoint_and_complete(photos: Path, tmp_path: Path) -> None:
    predict_archive(BrightSpot(), photos, tmp_path / "whole", images_per_shard=2)
    out, reports = tmp_path / "out", []
    for index in (0, 1):
        execution = Execution(share=Share(index, 2))
        reports.append(predict_archive(BrightSpot(), photos, out, images_per_shard=2, execution=execution))
    assert [(report.images_now, report.shards_left) for report in reports] == [(4, 2), (3, 0)]
    assert rows(out) == rows(tmp_path / "whole")


def test_a_shard_that_kills_is_given_up(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for number in range(MOST_ATTEMPTS):
        open_storage(out).write(f"attempts/part-000001-host-{number}-0.json", b"{}")
    report = predict_archive(BrightSpot(), photos, out, images_per_shard=2)
    assert report.shards_left == 1 and not report.complete
    assert "workers died over its 2 files" in report.failures[0]
    (out / "attempts").rename(out / "looked-at")
    assert predict_archive(BrightSpot(), photos, out).complete


def test_names_of_any_bytes(tmp_path: Path) -> None:
    file = write_spot(tmp_path / "in" / os.fsdecode(b"caf\xe9.png"))
    report = predict_archive(BrightSpot(), tmp_path / "in", tmp_path / "out")
    assert report.images == 1, "it is read by its bytes"
    assert rows(tmp_path / "out")[0][0]["file"] == str(file.parent / "caf\ufffd.png")


def test_nothing_to_do_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(ValueError, match="found no images"):
        predict_archive(BrightSpot(), tmp_path / "in", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png does not exist"):
        predict_archive(BrightSpot(), tmp_path / "nowhere.png", tmp_path / "out")
    with pytest.raises(ValueError, match="expected a URL that fsspec can open here"):
        predict_archive(BrightSpot(), "nothing9://bucket/a.png", tmp_path / "out")


@pytest.mark.slow
def test_killed_processes_are_replaced(photos: Path, tmp_path: Path) -> None:
    for number in range(60):
        write_spot(photos / f"more{number:02d}.png")
    predict_archive(SlowBrightSpot(), photos, tmp_path / "undisturbed", images_per_shard=2)
    out = tmp_path / "out"
    run = subprocess.Popen([sys.executable, PROGRAM, photos, out, "2"], env=environment())
    for finished in (3, 10):
        until(lambda finished=finished: len(open_storage(out).names(IMAGES)) >= finished)
        os.kill(min(until(lambda: {each for each in pids(out) if Path(f"/proc/{each}").exists()})), signal.SIGKILL)
    assert run.wait(600) == 0
    assert rows(out) == rows(tmp_path / "undisturbed")


@pytest.mark.slow
def test_workers_end_with_a_killed_driver(photos: Path, tmp_path: Path) -> None:
    for number in range(60):
        write_spot(photos / f"more{number:02d}.png")
    run = subprocess.Popen([sys.executable, PROGRAM, photos, tmp_path / "out", "2"], env=environment())
    workers = until(lambda: len(found := pids(tmp_path / "out")) == 2 and found)
    run.kill()
    run.wait()
    until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


def pids(out: Path) -> set[int]:
    """Processes that have a shard of the archive, or died over it."""
    return {int(name.split("-")[-2]) for name in open_storage(out).names("attempts")}
