"""Scenes on disk in COCO layout, the same files for any number of workers."""

from __future__ import annotations

import json
import multiprocessing
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from smidgen.data.finished_folder import finished_folder, require_free
from smidgen.data.synthetic.config import CATEGORY_IDS, CLASS_NAMES, SceneConfig
from smidgen.data.synthetic.scene import render_scene

DEFAULT_SPLITS: Mapping[str, int] = {"train": 200, "val": 50}
SCENES_PER_SPLIT = 1_000_000
SCENES_PER_TASK = 4

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class _Task:
    """One image to make; index: what `render_scene` is asked for."""

    config: SceneConfig
    index: int
    file: Path
    quality: int


def scene_index(split: str, number: int) -> int:
    """Index of a split's scene for `render_scene`: a split's scenes do not change with the sizes of the others."""
    return zlib.crc32(split.encode()) * SCENES_PER_SPLIT + number


def generate(
    out: Path | str,
    config: SceneConfig,
    *,
    splits: Mapping[str, int] = DEFAULT_SPLITS,
    workers: int = 1,
    progress: Progress | None = None,
    image_format: Literal["jpg", "png"] = "jpg",
) -> Path:
    """Write `<out>/<split>/annotations.json` and `<out>/<split>/images/`; returns the folder.

    Everything is written beside `out` under a temporary name and renamed when complete, so an interrupted run leaves no
    half dataset. progress: called with (scenes done, scenes in all). ValueError: `out` holds something already, or a
    split, the format or the number of workers makes no sense.
    """
    out = Path(out)
    require_free(out)
    _require_sensible(splits, workers, image_format)
    with finished_folder(out) as folder:
        _write_splits(folder, config, splits, workers, progress, image_format)
    return out


def _require_sensible(splits: Mapping[str, int], workers: int, image_format: str) -> None:
    plain = all(name and Path(name).name == name and not name.startswith(".") for name in splits)
    if not splits or not plain or not all(0 <= count <= SCENES_PER_SPLIT for count in splits.values()):
        raise ValueError(
            f"expected splits as folder names with 0..{SCENES_PER_SPLIT} scenes each, got {dict(splits)}; change splits"
        )
    if workers < 1:
        raise ValueError(f"expected at least 1 worker, got {workers}; change workers")
    if image_format not in ("jpg", "png"):
        raise ValueError(f"expected image_format 'jpg' or 'png', got {image_format!r}; change image_format")


def _write_splits(
    folder: Path,
    config: SceneConfig,
    splits: Mapping[str, int],
    workers: int,
    progress: Progress | None,
    image_format: str,
) -> None:
    tasks: dict[str, list[_Task]] = {}
    for split, count in splits.items():
        images = folder / split / "images"
        images.mkdir(parents=True)
        tasks[split] = [
            _task(config, split, number, images / f"{number:06d}.{image_format}") for number in range(count)
        ]
    total, done = sum(splits.values()), 0
    results = _results([task for split in tasks.values() for task in split], workers)
    for split, members in tasks.items():
        scenes = []
        for _ in members:
            scenes.append(next(results))
            done += 1
            if progress is not None:
                progress(done, total)
        annotations = coco_annotations(config, split, members, scenes)
        (folder / split / "annotations.json").write_text(json.dumps(annotations), encoding="utf-8")


def _task(config: SceneConfig, split: str, number: int, file: Path) -> _Task:
    index = scene_index(split, number)
    low, high = config.jpeg_quality
    quality = int(np.random.default_rng((config.seed, index, 4)).integers(low, high + 1))
    return _Task(config, index, file, quality)


def _results(tasks: list[_Task], workers: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Boxes and labels in the order of the tasks, whoever made them."""
    if workers == 1 or len(tasks) <= 1:
        yield from map(_make, tasks)
        return
    # spawn: forking a process in which torch has started its threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context) as pool:
        yield from pool.map(_make, tasks, chunksize=SCENES_PER_TASK)


def _make(task: _Task) -> tuple[np.ndarray, np.ndarray]:
    image, boxes_xyxy, labels = render_scene(task.config, task.index)
    # The quality means nothing to a PNG; color at full resolution only in good JPEGs, as cameras do.
    Image.fromarray(image).save(task.file, quality=task.quality, subsampling=0 if task.quality >= 90 else 2)
    return boxes_xyxy, labels


def coco_annotations(
    config: SceneConfig, split: str, tasks: list[_Task], scenes: list[tuple[np.ndarray, np.ndarray]]
) -> dict[str, Any]:
    """The COCO dictionary of a split. `area` is the box's; `scene_index` lets `render_scene` make the scene again."""
    width, height = config.size_wh
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (task, (boxes_xyxy, labels)) in enumerate(zip(tasks, scenes, strict=True), 1):
        images.append(
            {"id": image_id, "file_name": task.file.name, "width": width, "height": height, "scene_index": task.index}
        )
        for (x0, y0, x1, y1), label in zip(boxes_xyxy.tolist(), labels.tolist(), strict=True):
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": CATEGORY_IDS[config.classes[label]],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
                "iscrowd": 0,
            }
            annotations.append(annotation)
    names = [name for name in CLASS_NAMES if name in config.classes]
    categories = [{"id": CATEGORY_IDS[name], "name": name} for name in names]
    info = {"description": f"scenes rendered by smidgen, split {split}", "config": asdict(config)}
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}
