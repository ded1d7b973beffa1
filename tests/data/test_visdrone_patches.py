"""The distribution becomes a dataset that is read like any other, complete or not there at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smidgen.data import open_dataset, read_image
from smidgen.data.visdrone_patches import prepare_visdrone
from smidgen.recipes.visdrone_patches import main

ROWS = "10,5,30,20,1,4,0,0\n70,60,8,8,1,1,0,0\n40,30,40,30,0,0,0,0\n3,3,4,4,1,11,0,0\n2,50,6,6,0,9,0,0\n"


@pytest.fixture
def distribution(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test-dev"):
        folder = tmp_path / "visdrone" / f"VisDrone2019-DET-{split}"
        for part in ("images", "annotations"):
            (folder / part).mkdir(parents=True)
        smooth = np.kron(rng.integers(0, 256, (9, 13, 3)), np.ones((9, 8, 1)))[:75, :101].astype(np.uint8)
        Image.fromarray(smooth).save(folder / "images" / "a.jpg", quality=95)
        (folder / "annotations" / "a.txt").write_text(ROWS)
    return tmp_path / "visdrone"


def test_training_images_become_four_and_others_stay_whole(distribution: Path, tmp_path: Path) -> None:
    notes = prepare_visdrone(distribution, tmp_path / "out", workers=2)
    assert {split: len(found) for split, found in notes.items()} == {"train": 0, "val": 0, "test-dev": 0}
    train = open_dataset(tmp_path / "out", "train")
    assert [record.file.name for record in train.records] == ["a_0.jpg", "a_1.jpg", "a_2.jpg", "a_3.jpg"]
    assert [record.size_hw for record in train.records] == [(37, 50), (37, 51), (38, 50), (38, 51)]
    assert [record.boxes_xyxy.tolist() for record in train.records] == [[[10, 5, 40, 25]], [], [], [[20, 23, 28, 31]]]
    assert [record.labels.tolist() for record in train.records] == [[3], [], [], [0]]
    assert {tuple(record.ignore_xyxy[0].tolist()) for record in train.records[:2]} == {
        (40, 30, 50, 37),
        (0, 30, 30, 37),
    }
    val = open_dataset(tmp_path / "out", "val")
    assert val.records[0].boxes_xyxy.tolist() == [[10, 5, 40, 25], [70, 60, 78, 68]]
    assert val.classes.ids == tuple(range(1, 11)) and val.classes.names[3] == "car"
    original = distribution / "VisDrone2019-DET-val" / "images" / "a.jpg"
    assert val.records[0].file.read_bytes() == original.read_bytes()


def test_patches_show_their_part_of_the_image(distribution: Path, tmp_path: Path) -> None:
    prepare_visdrone(distribution, tmp_path / "out")
    whole = read_image(distribution / "VisDrone2019-DET-train" / "images" / "a.jpg").float()
    patch = read_image(tmp_path / "out" / "train" / "images" / "a_3.jpg").float()
    assert patch.shape == (3, 38, 51)
    assert (patch - whole[:, 37:, 50:]).abs().mean() < 6, "encoded again, otherwise the same"
    assert (patch - whole[:, :38, :51]).abs().mean() > 20


def test_ignored_regions_may_be_left_out_as_in_the_released_code(distribution: Path, tmp_path: Path) -> None:
    prepare_visdrone(distribution, tmp_path / "out", keep_ignored_regions=False)
    assert all(len(record.ignore_xyxy) == 0 for record in open_dataset(tmp_path / "out", "train").records)


def test_broken_files_are_left_out_and_said(
    distribution: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = distribution / "VisDrone2019-DET-train"
    whole = (folder / "images" / "a.jpg").read_bytes()
    (folder / "images" / "b.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "images" / "c.jpg").write_bytes(whole)
    (folder / "annotations" / "c.txt").write_text("<html>")
    (folder / "images" / "d.jpg").write_bytes(whole)
    main([str(distribution), str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert "b.jpg" in said and "line 1 of" in said and "1 images have no label file" in said
    names = {record.file.name for record in open_dataset(tmp_path / "out", "train").records}
    assert names == {f"{name}_{index}.jpg" for name in "ad" for index in range(4)}


def test_an_interrupted_run_leaves_nothing(distribution: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_visdrone(distribution, tmp_path / "out", progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["visdrone"]


def test_what_cannot_be_prepared_is_said_before_anything_is_written(distribution: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").touch()
    with pytest.raises(ValueError, match="expected a new or empty folder"):
        prepare_visdrone(distribution, tmp_path / "full")
    with pytest.raises(ValueError, match="unpack VisDrone's archives"):
        prepare_visdrone(tmp_path / "full", tmp_path / "out")
    with pytest.raises(ValueError, match="splits to cut out of test-dev, train, val, got tran"):
        prepare_visdrone(distribution, tmp_path / "out", cut=["tran"])
    assert (tmp_path / "full" / "kept").exists() and not (tmp_path / "out").exists()
