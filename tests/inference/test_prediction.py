from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bright_spot import BrightSpot, write_spot

from smidgen.data import UnreadableImageError
from smidgen.inference import predict


def test_boxes_are_in_pixels_of_the_file(bright_spot: BrightSpot, tmp_path: Path) -> None:
    file = write_spot(tmp_path / "large.png", (256, 128), (64, 32, 128, 64))
    (found,) = predict(bright_spot, file)
    torch.testing.assert_close(found.boxes_xyxy, torch.tensor([[64.0, 32.0, 128.0, 64.0]]), atol=8.0, rtol=0)
    assert (found.file, found.image_hw) == (str(file), (128, 256))
    assert found.to_coco()[0]["category_id"] == 7


def test_score_and_number_are_limited(bright_spot: BrightSpot, spot_image: Path) -> None:
    assert [len(found) for found in predict(bright_spot, spot_image, score=0.1)] == [2]
    assert [len(found) for found in predict(bright_spot, spot_image, score=0.1, max_detections=1)] == [1]
    assert [len(found) for found in predict(bright_spot, spot_image, score=0.95)] == [0]


def test_broken_images_are_reported_and_skipped(bright_spot: BrightSpot, tmp_path: Path) -> None:
    write_spot(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "c.jpg").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    write_spot(tmp_path / "d.png")
    problems: list[UnreadableImageError] = []
    found = list(predict(bright_spot, tmp_path, on_unreadable=problems.append))
    assert [Path(one.file).name for one in found] == ["a.png", "d.png"]
    assert [problem.path.name for problem in problems] == ["b.png", "c.jpg"]


def test_only_one_batch_is_read_ahead(bright_spot: BrightSpot, tmp_path: Path) -> None:
    for index in range(6):
        write_spot(tmp_path / f"{index}.png")
    found = predict(bright_spot, tmp_path, batch_size=2)
    next(found)
    (tmp_path / "4.png").unlink()
    assert bright_spot.batch_sizes == [2]
    assert [Path(one.file).name for one in found] == ["1.png", "2.png", "3.png", "5.png"]


def test_unlike_sizes_do_not_share_a_batch(bright_spot: BrightSpot, tmp_path: Path) -> None:
    for index, size_wh in enumerate([(64, 32), (64, 32), (32, 64), (32, 64)]):
        write_spot(tmp_path / f"{index}.png", size_wh)
    assert [found.image_hw for found in predict(bright_spot, tmp_path, batch_size=4)] == [(32, 64)] * 2 + [(64, 32)] * 2
    assert bright_spot.batch_sizes == [2, 2]


@pytest.mark.parametrize("size_wh", [(1, 1), (3000, 1), (1, 3000)])
def test_extreme_shapes(bright_spot: BrightSpot, tmp_path: Path, size_wh: tuple[int, int]) -> None:
    file = write_spot(tmp_path / "thin.png", size_wh, (0, 0, 1, 1))
    (found,) = predict(bright_spot, file, score=0.1)
    assert found.image_hw == (size_wh[1], size_wh[0])


@pytest.mark.parametrize("settings", [{"score": 1.5}, {"max_detections": 0}, {"batch_size": 0}])
def test_settings_out_of_range_are_told_at_once(bright_spot: BrightSpot, spot_image: Path, settings: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        predict(bright_spot, spot_image, **settings)
