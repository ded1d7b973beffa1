from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from smidgen.evaluation.visdrone_files import (
    read_visdrone_detections,
    read_visdrone_ground_truth,
    visdrone_folder,
    write_visdrone_detections,
)

# An object, one not to be judged, an ignored region, others; a trailing comma as the first release has them.
ROWS = "10,20,5,6,1,4,0,1\n30,20,5,6,0,4,1,2\n\n0,0,50,40,0,0,0,0\n7,7,7,7,1,11,0,0,\n"


def annotations(folder: Path, text: str | bytes = ROWS, name: str = "0001.txt") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def test_rows_become_objects_crowds_and_regions(tmp_path: Path):
    truth = read_visdrone_ground_truth(annotations(tmp_path / "annotations"))
    assert truth["images"] == [{"id": "0001", "file_name": "0001.jpg"}]
    assert [(entry["category_id"], entry["iscrowd"]) for entry in truth["annotations"]] == [(4, 0), (4, 1), (0, 1)]
    assert truth["annotations"][0]["bbox"] == [10, 20, 5, 6] and truth["annotations"][0]["occlusion"] == 1
    assert truth["annotations"][0]["area"] == 30 and truth["categories"][3] == {"id": 4, "name": "car"}


def test_sizes_come_from_pictures_beside_the_annotations(tmp_path: Path):
    folder = annotations(tmp_path / "annotations")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "images" / "0001.png")
    image = read_visdrone_ground_truth(folder)["images"][0]
    assert image == {"id": "0001", "file_name": "0001.png", "height": 48, "width": 64}
    (tmp_path / "images" / "0001.png").write_bytes(b"broken")
    assert "width" not in read_visdrone_ground_truth(folder)["images"][0]


numbers = st.floats(0, 4000, allow_nan=False).map(lambda value: float(f"{value:.5g}"))
detections = st.fixed_dictionaries(
    {
        "image_id": st.sampled_from([3, 5]),
        "category_id": st.integers(1, 10),
        "bbox": st.lists(numbers, min_size=4, max_size=4),
        "score": st.integers(1, 99).map(lambda value: value / 100),
    }
)


@settings(max_examples=10)  # each one waits for the disk
@given(st.lists(detections, max_size=12))
def test_detections_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, results: list[dict[str, Any]]):
    folder = tmp_path_factory.mktemp("found") / "detections"
    images = [{"id": 3, "file_name": "a/0001.jpg"}, {"id": 5, "file_name": "0002.jpg"}]
    write_visdrone_detections(folder, results, images)
    again, others = read_visdrone_detections(folder, images)
    assert others == 0
    assert again == sorted(results, key=lambda entry: (entry["image_id"], -entry["score"]))


def test_detections_of_other_categories_are_counted_and_of_other_images_refused(tmp_path: Path):
    folder = annotations(tmp_path / "found", "1,2,3,4,0.5,4,-1,-1\n1,2,3,4,0.9,11,-1,-1\n1,2,3,4,0.9,0\n")
    results, others = read_visdrone_detections(folder, [{"id": 1, "file_name": "0001.jpg"}])
    assert (len(results), others) == (1, 2)
    with pytest.raises(ValueError, match=r"0001.txt\); expected names such as 0002.txt"):
        read_visdrone_detections(folder, [{"id": 1, "file_name": "0002.jpg"}])


@pytest.mark.parametrize("row", ["1,2,3,4,1", "1 2 3 4 1 4", "1,2,3,4,1,car,0,0"])
def test_a_row_that_is_none_is_named(row: str, tmp_path: Path):
    with pytest.raises(ValueError, match=r"row 2 of .*0001.txt"):
        read_visdrone_ground_truth(annotations(tmp_path, f"1,2,3,4,1,4,0,0\n{row}\n"))


def test_files_with_a_byte_order_mark_and_windows_line_ends(tmp_path: Path):
    truth = read_visdrone_ground_truth(annotations(tmp_path, b"\xef\xbb\xbf" + ROWS.replace("\n", "\r\n").encode()))
    assert len(truth["annotations"]) == 3


def test_folders_are_recognized_by_what_is_in_them(tmp_path: Path):
    split = annotations(tmp_path / "split" / "annotations").parent
    assert visdrone_folder(split) == visdrone_folder(split / "annotations") == split / "annotations"
    assert visdrone_folder(annotations(tmp_path / "yolo", "0 0.5 0.5 0.1 0.1\n")) is None
    assert visdrone_folder(tmp_path) is None and visdrone_folder(tmp_path / "nothing") is None
    assert visdrone_folder(annotations(tmp_path / "empty", "")) == tmp_path / "empty"
    with pytest.raises(ValueError, match="found none"):
        read_visdrone_ground_truth(tmp_path)
