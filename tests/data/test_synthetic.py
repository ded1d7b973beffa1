from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from smidgen.data.synthetic import CATEGORY_IDS, CLASS_NAMES, SCENERIES, SceneConfig, generate, render_scene
from smidgen.data.synthetic.generate import scene_index
from smidgen.data.synthetic.light import Light, cast_shadows
from smidgen.data.synthetic.placement import Placed, fit_pose, outline_px, place_objects, sprites_of, visible_box
from smidgen.data.synthetic.scene import draw_scene, draw_setting
from smidgen.data.synthetic.stamp import Pose, render
from smidgen.data.synthetic.surface import Surface

SMALL = SceneConfig(size_wh=(160, 128), side_px=(3, 24), objects=(4, 9), seed=7)
# Nothing between the drawing and the pixels: a difference of two images is the object.
BARE = replace(
    SMALL,
    cloudiness=(1, 1),
    haze=(0, 0),
    vignetting=(0, 0),
    blur_px=(0, 0),
    noise=(0, 0),
    distractors=0,
    side_px=(4, 40),
)
NOON = Light.of(0, 60, 1)


def sides(boxes: np.ndarray) -> np.ndarray:
    return np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))


def drawn(config: SceneConfig, index: int, count: int) -> tuple[Surface, Placed]:
    """The scene before light and camera, with another number of objects on the same ground."""
    setting, ground, objects = (np.random.default_rng((config.seed, index, stream)) for stream in range(3))
    return draw_scene(config, replace(draw_setting(config, setting), count=count), ground, objects)


@pytest.mark.parametrize("scenery", SCENERIES)
def test_the_box_is_the_extent_of_what_the_object_changes_in_the_picture(scenery: str) -> None:
    config = replace(BARE, sceneries=(scenery,))
    for index in range(3):
        empty, _ = drawn(config, index, 0)
        surface, placed = drawn(config, index, 1)
        if placed.names == ["boat"]:  # its wake changes the water, too; the next test has boats
            continue
        rows, columns = np.nonzero(np.abs(surface.albedo - empty.albedo).max(-1) > 1e-3)
        x0, y0, x1, y1 = placed.boxes[0]
        assert (columns.min(), rows.min()) == (math.floor(x0), math.floor(y0))
        assert (columns.max() + 1, rows.max() + 1) == (math.ceil(x1), math.ceil(y1))


@given(
    name=st.sampled_from(CLASS_NAMES),
    model=st.integers(0, 20),
    heading=st.floats(0, 6.28),
    side=st.floats(2, 64),
    place=st.tuples(st.floats(40, 41), st.floats(40, 41)),
)
@settings(max_examples=60, deadline=None)
def test_a_rendered_object_fills_its_box_and_nothing_else(
    name: str, model: int, heading: float, side: float, place: tuple[float, float]
) -> None:
    models = sprites_of(name)
    sprite, pose = models[model % len(models)], Pose(*place, heading)
    scale = side / math.sqrt(float(np.prod(np.ptp(outline_px(sprite, pose, 1.0), axis=0))))
    patch = render(sprite, pose, scale, NOON, (200.0, 40.0, 40.0))
    assert patch is not None
    rows, columns = np.nonzero(patch.coverage)
    x0, y0, x1, y1 = patch.box_xyxy
    assert (columns.min() + patch.x, rows.min() + patch.y) == (math.floor(x0), math.floor(y0))
    assert (columns.max() + 1 + patch.x, rows.max() + 1 + patch.y) == (math.ceil(x1), math.ceil(y1))
    # A bus that stands aslant fills a third of its box, and less where that is two pixels.
    assert 0.25 < patch.coverage.sum() / ((x1 - x0) * (y1 - y0)) <= 1.0
    outline = outline_px(sprite, pose, scale)
    assert np.abs(np.concatenate([outline.min(0), outline.max(0)]) - patch.box_xyxy).max() < 0.6 + 0.03 * side


def test_the_box_of_an_object_cut_by_the_border_is_that_of_its_visible_part() -> None:
    sprite = sprites_of("bus")[0]
    patch = render(sprite, Pose(0.0, 10.0, 0.8), 4.0, NOON, (200.0, 40.0, 40.0))
    assert patch is not None and patch.box_xyxy[0] < 0
    x0, y0, x1, y1 = visible_box(patch, (80, 80))
    _, inside = patch.clipped((80, 80))
    rows = np.flatnonzero(patch.coverage[inside].any(1))
    assert x0 == 0 and x1 == patch.box_xyxy[2]
    assert math.ceil(y1) - math.floor(y0) == rows.max() - rows.min() + 1
    assert y0 > patch.box_xyxy[1] + 5  # half of a slanting bus is also less tall


@given(side=st.floats(1, 90), heading=st.floats(0, 6.28))
@settings(max_examples=40, deadline=None)
def test_objects_are_scaled_into_the_size_range_or_left_out(side: float, heading: float) -> None:
    sprite, scale = sprites_of("car")[0], side / 3.7
    pose = fit_pose(sprite, Pose(0, 0, heading), scale, (4.0, 20.0))
    if pose is None:
        assert side < 4.0 or side > 20.0
    else:
        assert 4.0 <= math.sqrt(float(np.prod(np.ptp(outline_px(sprite, pose, scale), axis=0)))) <= 20.0


@pytest.mark.parametrize("scenery", SCENERIES)
def test_sizes_counts_and_labels_are_those_asked_for(scenery: str) -> None:
    config = replace(SMALL, sceneries=(scenery,))
    for index in range(4):
        image, boxes, labels = render_scene(config, index)
        assert image.shape == (128, 160, 3) and image.dtype == np.uint8
        assert 4 <= len(boxes) == len(labels) <= 9
        assert sides(boxes).min() >= 3 and sides(boxes).max() <= 24
        assert boxes.min() >= 0 and boxes[:, 2].max() <= 160 and boxes[:, 3].max() <= 128
        assert labels.min() >= 0 and labels.max() < len(config.classes)


def test_dense_scenes_hold_as_many_objects_as_asked_for_and_none_hides_another() -> None:
    config = replace(SMALL, size_wh=(256, 256), objects=(300, 300), side_px=(2, 12))
    for index in range(3):
        _, boxes, _ = render_scene(config, index)
        assert len(boxes) == 300
        low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
        shared = np.prod(np.clip(np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - low, 0, None), axis=-1)
        areas = sides(boxes) ** 2
        overlap = shared / (areas[:, None] + areas[None] - shared)
        assert (overlap - np.eye(300)).max() <= 0.3


def test_sizes_spread_over_the_octaves_of_the_range() -> None:
    config = replace(SMALL, side_px=(2, 32), objects=(3, 6))
    octaves = np.concatenate([np.log2(sides(render_scene(config, index)[1])) for index in range(40)])
    assert np.histogram(octaves, bins=[1, 2, 3, 4, 5])[0].min() >= 0.08 * len(octaves)


def test_only_the_chosen_classes_appear_and_labels_follow_their_order() -> None:
    config = replace(SMALL, classes=("person", "boat"), sceneries=("harbor", "beach"))
    seen = {int(label) for index in range(6) for label in render_scene(config, index)[2]}
    assert seen == {0, 1}
    only_boats = replace(SMALL, classes=("boat",))
    assert only_boats.usable_sceneries == ("harbor", "beach")
    assert set(render_scene(only_boats, 0)[2].tolist()) == {0}


def test_a_scene_depends_on_seed_and_index_only() -> None:
    first, again, other = render_scene(SMALL, 3), render_scene(SMALL, 3), render_scene(SMALL, 4)
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[0], render_scene(replace(SMALL, seed=8), 3)[0])


def test_objects_of_two_pixels_can_be_told_from_the_ground() -> None:
    """The middle of each box against a ring around it, without noise: nearly all stand out by 8 levels or more."""
    config = replace(BARE, size_wh=(256, 256), side_px=(2, 2.5), objects=(30, 30), cloudiness=(0, 1))
    contrast = []
    for index in range(8):
        image, boxes, _ = render_scene(config, index)
        contrast += [_contrast(image.astype(float), box) for box in boxes]
    assert len(contrast) == 240
    assert np.mean(np.array(contrast) > 8) > 0.95


def _contrast(image: np.ndarray, box: np.ndarray) -> float:
    """Largest difference over channels between the middle pixel of a box and the mean of the ring 3 px outside it."""
    column, row = (int(value) for value in (box[:2] + box[2:]) / 2)
    outer = image[max(0, row - 4) : row + 5, max(0, column - 4) : column + 5]
    inner = image[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
    ring = (outer.sum((0, 1)) - inner.sum((0, 1))) / (outer[..., 0].size - inner[..., 0].size)
    return float(np.abs(image[min(row, 255), min(column, 255)] - ring).max())


def test_shadows_fall_away_from_the_sun_as_long_as_the_sun_is_low() -> None:
    height = np.zeros((60, 60), np.float32)
    height[29:31, 29:31] = 4.0
    shadow = cast_shadows(
        height, Light.of(0, 45, 0), 2.0
    )  # sun at the right, 4 m at 2 px/m: 8 px of shadow to the left
    assert shadow[29, 22:29].min() == 1 and shadow[29, :19].max() == 0
    assert shadow[:, 31:].max() == 0 and shadow[:28].max() == 0
    assert cast_shadows(height, Light.of(0, 25, 0), 2.0).sum() > 1.6 * shadow.sum()


def test_shadows_are_no_part_of_boxes() -> None:
    low_sun = replace(
        BARE, cloudiness=(0, 0), sun_elevation_degrees=(20, 20), sceneries=("plaza",), classes=("person",)
    )
    noon = replace(low_sun, sun_elevation_degrees=(85, 85))
    assert not np.array_equal(render_scene(low_sun, 1)[0], render_scene(noon, 1)[0])
    assert np.array_equal(render_scene(low_sun, 1)[1], render_scene(noon, 1)[1])


def test_coco_files_hold_what_render_scene_returns(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    out = generate(
        tmp_path / "scenes", SMALL, splits={"train": 3, "val": 2}, progress=lambda *state: calls.append(state)
    )
    assert calls == [(done, 5) for done in range(1, 6)]
    for split, count in (("train", 3), ("val", 2)):
        coco = json.loads((out / split / "annotations.json").read_text())
        assert [image["id"] for image in coco["images"]] == list(range(1, count + 1))
        assert {category["name"]: category["id"] for category in coco["categories"]} == CATEGORY_IDS
        image = coco["images"][1]
        assert Image.open(out / split / "images" / image["file_name"]).size == (160, 128)
        _, boxes, labels = render_scene(SMALL, scene_index(split, 1))
        rows = [row for row in coco["annotations"] if row["image_id"] == 2]
        xywh = np.array([row["bbox"] for row in rows])
        assert np.array_equal(np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1), boxes)
        assert [row["category_id"] for row in rows] == [CATEGORY_IDS[SMALL.classes[label]] for label in labels]
        assert [row["id"] for row in coco["annotations"]] == list(range(1, len(coco["annotations"]) + 1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scenes"]


def test_category_ids_stay_when_classes_are_left_out(tmp_path: Path) -> None:
    out = generate(tmp_path / "boats", replace(SMALL, classes=("boat",)), splits={"val": 1}, image_format="png")
    coco = json.loads((out / "val" / "annotations.json").read_text())
    assert coco["categories"] == [{"id": 6, "name": "boat"}]
    assert {row["category_id"] for row in coco["annotations"]} == {6}
    pixels = np.asarray(Image.open(out / "val" / "images" / "000000.png"))
    assert np.array_equal(pixels, render_scene(replace(SMALL, classes=("boat",)), scene_index("val", 0))[0])


def test_workers_and_other_splits_do_not_change_a_file(tmp_path: Path) -> None:
    alone = generate(tmp_path / "alone", SMALL, splits={"val": 3})
    together = generate(tmp_path / "together", SMALL, splits={"train": 2, "val": 3}, workers=2)
    files = sorted(path.relative_to(alone) for path in alone.rglob("*") if path.is_file())
    assert len(files) == 4
    assert all((alone / file).read_bytes() == (together / file).read_bytes() for file in files)


def test_an_existing_dataset_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(ValueError, match="remove it or choose another"):
        generate(tmp_path, SMALL, splits={"train": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_a_failed_run_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "scenes", SMALL, splits={"train": 2}, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_may_be_filled_and_images_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "scenes").mkdir()
    out = generate(tmp_path / "scenes", replace(SMALL, objects=(0, 0)), splits={"train": 1})
    assert json.loads((out / "train" / "annotations.json").read_text())["annotations"] == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"classes": ("car", "plane")}, "classes"),
        ({"classes": ()}, "classes"),
        ({"sceneries": ("moon",)}, "sceneries"),
        ({"classes": ("boat",), "sceneries": ("streets",)}, "boats need harbor"),
        ({"side_px": (1, 10)}, "side_px"),
        ({"side_px": (10, 11)}, "widen side_px"),
        ({"side_px": (20, 40), "objects": (0, 500)}, "lower objects or side_px"),
        ({"objects": (9, 3)}, "objects"),
        ({"size_wh": (16, 400)}, "size_wh"),
        ({"noise": (0, math.nan)}, "noise"),
        ({"distractors": -1}, "distractors"),
    ],
)
def test_impossible_configurations_say_what_to_change(change: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        replace(SMALL, **change)


@pytest.mark.parametrize(("splits", "workers"), [({}, 1), ({"../x": 1}, 1), ({"train": -1}, 1), ({"train": 1}, 0)])
def test_impossible_requests_write_nothing(tmp_path: Path, splits: dict[str, int], workers: int) -> None:
    with pytest.raises(ValueError, match="change"):
        generate(tmp_path / "scenes", SMALL, splits=splits, workers=workers)
    assert list(tmp_path.iterdir()) == []


def test_a_crowded_surface_takes_what_fits_and_reports_only_that() -> None:
    surface = Surface.blank((64, 64), 4.0, NOON)
    placed = place_objects(surface, {"car": 1.0}, 500, (8.0, 24.0), np.random.default_rng(0))
    assert 5 < len(placed.boxes) == len(placed.names) < 60
