"""From a trained detector to a verified bundle: trace, write, run, compare, and only then take the name."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import UInt8
from torch import Tensor

from smidgen.checkpoints.atomic_write import write_folder_atomically
from smidgen.export.bundle import RUNNER_FILE, Bundle, Canvas, Runtime, Tiling, is_bundle, write_bundle
from smidgen.export.bundle_detector import BundleDetector
from smidgen.export.comparison import Tolerance
from smidgen.export.missing_package import required
from smidgen.export.onnx_file import write_onnx
from smidgen.export.openvino_file import write_openvino
from smidgen.export.sessions import open_session
from smidgen.export.traced_detector import Sampling, TracedDetector, trace
from smidgen.export.verification import cases, verify
from smidgen.export.verification_pictures import rendered_scenes

Format = Literal["onnx", "openvino", "torch"]

RUNTIMES: dict[str, Runtime] = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch"}
_NEEDED: dict[str, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("openvino", "onnx", "onnxscript"),
    "torch": (),
}
_PACKAGES = ("smidgen", "torch", "onnx", "onnxruntime", "openvino", "nncf")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """canvas_hw: of the example, None = the model's usual input at 3:4. fixed_size: take no other size. sampling: see
    `traced_detector.trace`. max_detections: rows of the answer, None = the model's. score, tiling: written into the
    bundle for those who use it.
    """

    canvas_hw: tuple[int, int] | None = None
    fixed_size: bool = False
    sampling: Sampling = "grid"
    max_detections: int | None = None
    score: float = 0.3
    tiling: Tiling | None = None
    tolerance: Tolerance = field(default_factory=Tolerance)

    def __post_init__(self) -> None:
        if not 0.0 <= self.score <= 1.0:
            raise ValueError(f"expected a score threshold in [0, 1], got {self.score}; change --score")


@dataclass(frozen=True, slots=True)
class Exported:
    """folder: the bundle, which is not where it was asked for unless it is verified (`unverified_place`)."""

    folder: Path
    bundle: Bundle


def export(
    model: Any,
    out: Path | str,
    format: Format = "onnx",
    config: ExportConfig | None = None,
    *,
    pictures: Sequence[UInt8[Tensor, "3 _ _"]] | None = None,
    say: Say = lambda _: None,
) -> Exported:
    """Write a bundle to the folder `out` and compare its detections with the model's, in two batch sizes and, unless
    the size is fixed, at three canvas sizes.

    pictures: to compare on, None = rendered scenes. A bundle that fails is kept as `unverified_place(out)`, and `out`
    is not touched. Errors: ValueError, before any work, for a format whose packages are missing and an `out` that holds
    something else than a bundle; ValueError for a model that cannot be exported.
    """
    config, out = config or ExportConfig(), Path(out)
    require_packages(format)
    require_replaceable(out)
    canvas_hw = _on_grid(config.canvas_hw or usual_canvas(model), model.config.preprocessing.pad_multiple)
    say(f"tracing {model.name} at {canvas_hw[0]}x{canvas_hw[1]}")
    traced = _traced(model, canvas_hw, config)
    made: list[Bundle] = []

    def fill(folder: Path) -> None:
        say(f"writing {format}")
        _write(traced, folder, format)
        bundle = _described(model, traced, canvas_hw, format, config)
        say("comparing detections with the model's")
        made.append(_verified(model, bundle, folder, canvas_hw, config, pictures or rendered_scenes(canvas_hw)))
        write_bundle(made[0], folder)
        if format == "onnx":
            shutil.copyfile(Path(__file__).with_name("runner.py"), folder / RUNNER_FILE)

    waiting = unverified_place(out)
    write_folder_atomically(waiting, fill)
    return Exported(settle(waiting, out) if made[0].verified else waiting, made[0])


def require_packages(format: str) -> None:
    """Errors: ValueError for a format that there is not, and one whose packages are missing: writing takes minutes."""
    if format not in _NEEDED:
        raise ValueError(f"expected the format to be one of {', '.join(RUNTIMES)}, got {format!r}; change --format")
    for package in _NEEDED[format]:
        required(package, format)


def require_replaceable(out: Path) -> None:
    """Errors: ValueError where a bundle at `out` would take the place of something else, a run folder for example."""
    for place in (out, unverified_place(out)):
        if place.exists() and not is_bundle(place) and not _is_empty(place):
            raise ValueError(
                f"expected a new folder, an empty one or an earlier bundle, got {place}, which is something else and "
                "would be lost; change --out"
            )


def _is_empty(place: Path) -> bool:
    return place.is_dir() and next(place.iterdir(), None) is None


def unverified_place(out: Path) -> Path:
    """Where a bundle stands until it is verified, and stays if it fails: the name with `-unverified` behind it."""
    return out.with_name(out.name + "-unverified")


def settle(waiting: Path, out: Path) -> Path:
    """Give a verified bundle its name; an earlier bundle there is replaced."""
    write_folder_atomically(out, lambda partial: shutil.copytree(waiting, partial, dirs_exist_ok=True))
    shutil.rmtree(waiting)
    return out


def usual_canvas(model: Any) -> tuple[int, int]:
    """The canvas of a 3:4 photograph under the model's resize rule."""
    hw: tuple[int, int] = model.config.preprocessing.resized_hw(3000, 4000)
    return hw


def _on_grid(canvas_hw: tuple[int, int], multiple: int) -> tuple[int, int]:
    return -(-canvas_hw[0] // multiple) * multiple, -(-canvas_hw[1] // multiple) * multiple


def _traced(model: Any, canvas_hw: tuple[int, int], config: ExportConfig) -> TracedDetector:
    return trace(
        model,
        canvas_hw,
        dynamic_size=not config.fixed_size,
        sampling=config.sampling,
        max_detections=config.max_detections,
    )


def _write(traced: TracedDetector, folder: Path, format: Format) -> None:
    if format == "onnx":
        write_onnx(traced, folder / "model.onnx")
    elif format == "openvino":
        write_openvino(traced, folder / "model.xml")
    else:
        torch.export.save(traced.program, folder / "model.pt2")


def _described(
    model: Any, traced: TracedDetector, canvas_hw: tuple[int, int], format: Format, config: ExportConfig
) -> Bundle:
    return Bundle(
        system=model.name,
        runtime=RUNTIMES[format],
        sampling=config.sampling,
        preprocessing=model.config.preprocessing,
        canvas=Canvas(least_hw=canvas_hw, fixed_hw=canvas_hw if config.fixed_size else None),
        classes=model.classes,
        score=config.score,
        max_detections=traced.num_detections,
        tiling=config.tiling,
        object_sizes=getattr(model, "object_sizes", None),
        versions={package: found for package in _PACKAGES if (found := _version(package))},
    )


def _verified(
    model: Any,
    bundle: Bundle,
    folder: Path,
    canvas_hw: tuple[int, int],
    config: ExportConfig,
    pictures: Sequence[Tensor],
) -> Bundle:
    """The bundle with its checks; the smallest size that was compared is the least one it takes."""
    tried = cases(canvas_hw, bundle.preprocessing.pad_multiple, not config.fixed_size)
    least = min((case.canvas_hw for case in tried), key=lambda hw: hw[0] * hw[1])
    bundle = replace(bundle, canvas=replace(bundle.canvas, least_hw=least))
    detector = BundleDetector(bundle, open_session(folder / bundle.file, bundle.runtime))
    checks, passed = verify(model, detector, tried, pictures, config.tolerance)
    return replace(bundle, checks=checks, verified=passed)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
