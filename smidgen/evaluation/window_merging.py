"""Detections of the windows that large images were cut into, put together again before they are judged.

SODA-D (G. Cheng et al., "Towards Large-Scale Small Object Detection: Survey and Benchmarks", TPAMI 2023): windows of
800 px, moved by 650 px, each resized to 1200 for the network. Boxes go back to the original image, those of all its
windows are joined, and class-wise non-maximum suppression at IoU 0.5 removes what several windows saw. What the border
of a window cut is judged as it was found, as in the official tool; `smidgen predict --tile` knows better.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from smidgen.evaluation import entry_columns
from smidgen.evaluation.json_document import read_json

# DOTA's development kit and its heirs: NAME__RATE__LEFT___TOP; the image was resized by the rate before it was cut.
NAME_WITH_ORIGIN = re.compile(r"(?P<name>.+)__(?P<rate>\d+(?:\.\d+)?)__(?P<left>-?\d+)___(?P<top>-?\d+)")

SMALLEST_WINDOW_PX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPlace:
    """Where a window lies. image_id: of the original image. left, top: its corner there in pixels.

    scale: pixels of the detections for one of the original (1.5 where 800 px were resized to 1200 and boxes left so).
    """

    file: str
    image_id: int | str
    left: float
    top: float
    scale: float = 1.0


def merge_windows(
    results: Sequence[Mapping[str, Any]], windows: Mapping[int | str, WindowPlace], *, iou: float = 0.5
) -> list[dict[str, Any]]:
    """COCO results of windows (image_id = the window's id) as results of the original images, best score first.

    Of two boxes of one class and image that overlap by more than `iou` the better one stays.
    Raises ValueError where a result belongs to no window.
    """
    entry_columns.boxes(results, "prediction")
    entry_columns.numbers(results, "score", "prediction")
    entry_columns.identifiers(results, "category_id", "prediction")
    strangers = set(entry_columns.identifiers(results, "image_id", "prediction")) - windows.keys()
    if strangers:
        raise ValueError(
            f"{len(strangers)} image_id of the predictions are no windows ({_some(strangers)}); expected ids such as "
            f"{_some(windows)}: do predictions and table of windows belong together?"
        )
    placed = [_in_image(result, windows[result["image_id"]]) for result in results]
    return [placed[row] for row in _survivors(placed, iou)]


def read_windows(
    path: Path, images: Sequence[Mapping[str, Any]], *, scale: float = 1.0
) -> dict[int | str, WindowPlace]:
    """Windows by their id, from the windows.json that cutting with `smidgen convert-data` leaves, or from a COCO json
    whose images are windows.

    In the latter each says where it lies by `start_coord` [left, top] and `ori_id` (the original image's id), as
    SODA-D's tool writes it, or by its file name NAME__RATE__LEFT___TOP. images: COCO images of the original ground
    truth. scale: pixels of the detections for one of the window where the table does not say it.
    Raises ValueError where a window's place cannot be told.
    """
    document = read_json(path)
    entries = document.get("windows", document.get("images")) if isinstance(document, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"expected {path} to list windows, or images that are windows")
    names = {PurePath(str(image.get("file_name", image["id"]))).stem: image["id"] for image in images}
    places = dict(_place(entry, names, scale, path) for entry in entries)
    strangers = {place.image_id for place in places.values()} - {image["id"] for image in images}
    if strangers:
        raise ValueError(
            f"windows of {path} lie in {len(strangers)} images that the ground truth does not have "
            f"({_some(strangers)}); expected {_some(names.values())}: is it the same split?"
        )
    return places


def _place(
    window: Mapping[str, Any], names: Mapping[str, Any], scale: float, path: Path
) -> tuple[int | str, WindowPlace]:
    file = str(window.get("file", window.get("file_name", "")))
    name = NAME_WITH_ORIGIN.fullmatch(PurePath(file).stem)
    try:
        if "original_image_id" in window:
            own = {key: window[key] for key in ("left", "top", "scale")}
            return window["image_id"], WindowPlace(file=file, image_id=window["original_image_id"], **own)
        if "ori_id" in window:
            left, top = window["start_coord"]
            return window["id"], WindowPlace(file=file, image_id=window["ori_id"], left=left, top=top, scale=scale)
        if name is not None:
            return window["id"], _named_place(file, name, names, scale)
    except KeyError as error:
        raise ValueError(f"expected every window of {path} to have {error}, got {dict(window)}") from error
    raise ValueError(
        f"expected windows of {path} to say start_coord and ori_id, or to be named NAME__RATE__LEFT___TOP, "
        f"got {dict(window)}"
    )


def _named_place(file: str, name: re.Match[str], names: Mapping[str, Any], scale: float) -> WindowPlace:
    # Heirs of DOTA's kit write the window's size where the kit writes the rate.
    rate = float(name["rate"]) if float(name["rate"]) < SMALLEST_WINDOW_PX else 1.0
    left, top = float(name["left"]) / rate, float(name["top"]) / rate
    return WindowPlace(
        file=file, image_id=names.get(name["name"], name["name"]), left=left, top=top, scale=scale * rate
    )


def _in_image(result: Mapping[str, Any], place: WindowPlace) -> dict[str, Any]:
    x, y, width, height = (value / place.scale for value in result["bbox"])
    return {**result, "image_id": place.image_id, "bbox": [x + place.left, y + place.top, width, height]}


def _survivors(results: Sequence[Mapping[str, Any]], iou: float) -> Int[NDArray[np.int64], " S"]:
    """Rows that no better box of their class and image covers, best score first."""
    # Scoring plain files must not load torch; only here it is needed.
    import torch
    from torchvision.ops import batched_nms

    if not results:
        return np.zeros(0, np.int64)
    boxes = torch.from_numpy(_xyxy(results))
    scores = torch.tensor([result["score"] for result in results], dtype=torch.float64)
    places: dict[Any, int] = {}
    groups = torch.tensor([places.setdefault((one["image_id"], one["category_id"]), len(places)) for one in results])
    rows: NDArray[np.int64] = batched_nms(boxes, scores, groups, iou).numpy()
    return rows


def _xyxy(results: Sequence[Mapping[str, Any]]) -> Float[NDArray[np.float64], "D 4"]:
    boxes = np.array([result["bbox"] for result in results], dtype=np.float64)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _some(values: Iterable[Any]) -> str:
    listed = sorted(values, key=str)
    return ", ".join(repr(value) for value in listed[:5]) + (", ..." if len(listed) > 5 else "")
