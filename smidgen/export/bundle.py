"""A bundle: the folder that holds a model file and everything else that detecting with it takes.

bundle.json     what this module describes (docs/export.md explains every key)
model.*         the file of one runtime: model.onnx, model.xml with model.bin, or model.pt2
run.py          the runner: detections on the command line with onnxruntime, numpy and Pillow alone (ONNX bundles)
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from smidgen.structures import Classes, ObjectSizes, Preprocessing

BUNDLE_FILE, RUNNER_FILE = "bundle.json", "run.py"
FORMAT, VERSION = "smidgen bundle", 1

Runtime = Literal["onnxruntime", "openvino", "torch"]
MODEL_FILES: dict[str, str] = {"onnxruntime": "model.onnx", "openvino": "model.xml", "torch": "model.pt2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """least_hw: smaller canvases are padded to this size, the smallest that was verified. fixed_hw: the only size the
    file takes; images are shrunk until they fit. None = any size from `least_hw` on.
    """

    least_hw: tuple[int, int]
    fixed_hw: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """How large images are cut: square tiles of `tile_px`, neighbors sharing a part `overlap` of their side."""

    tile_px: int
    overlap: float = 0.2

    def __post_init__(self) -> None:
        if self.tile_px < 1 or not 0 <= self.overlap < 1:
            raise ValueError(
                f"expected tiles of at least 1 px and an overlap in [0, 1), got {self.tile_px} and {self.overlap}; "
                "change --tile or --overlap"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One comparison of the file's detections with the model's, as sets. canvas_hw: of the batch; images: in it.

    pairs: detections that both gave. missing, surplus: those that only the model, only the file gave. worst_box:
    largest difference of a pair's corners as a share of the image's longer side; worst_score: of its scores.
    """

    canvas_hw: tuple[int, int]
    images: int
    pairs: int
    missing: int
    surplus: int
    worst_box: float
    worst_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What bundle.json says.

    system: catalogue name. score: lowest score worth showing; max_detections: rows of the file's answer. tiling: None =
    images are seen whole. object_sizes: of the model's training, None = not known. verified: whether all checks passed;
    an int8 file is judged by `measured`, AP of it and of the float file. versions: of the packages that made it.
    """

    system: str
    runtime: Runtime
    precision: Literal["fp32", "int8"] = "fp32"
    sampling: Literal["grid", "gather"] = "grid"
    preprocessing: Preprocessing
    canvas: Canvas
    classes: Classes
    score: float
    max_detections: int
    tiling: Tiling | None = None
    object_sizes: ObjectSizes | None = None
    verified: bool = False
    checks: tuple[Check, ...] = ()
    measured: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """Name of the model file."""
        return MODEL_FILES[self.runtime]


def write_bundle(bundle: Bundle, folder: Path) -> None:
    """Write bundle.json."""
    document = {"format": FORMAT, "version": VERSION, "file": bundle.file, **asdict(bundle)}
    (folder / BUNDLE_FILE).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def is_bundle(path: Path | str) -> bool:
    """Whether a path is a bundle's folder or its bundle.json."""
    return _folder(path).joinpath(BUNDLE_FILE).is_file()


def read_bundle(path: Path | str) -> Bundle:
    """What bundle.json says. Errors: ValueError where it is damaged or of a version that this one does not know."""
    file = _folder(path) / BUNDLE_FILE
    try:
        document = dict(json.loads(file.read_text(encoding="utf-8")))
        form, version = document.pop("format"), document.pop("version")
        document.pop("file")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({error!r}); export again") from error
    if (form, version) != (FORMAT, VERSION):
        raise ValueError(f"expected a {FORMAT} of version {VERSION}, got {form!r} {version!r} in {file}; export again")
    try:
        return TypeAdapter(Bundle).validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{file}: {place}: {first['msg']}; export again") from error


def _folder(path: Path | str) -> Path:
    path = Path(path)
    return path.parent if path.name == BUNDLE_FILE else path
