"""`smidgen export`: a trained model as a bundle for runtimes without PyTorch, compared with the model first."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from smidgen.cli.failures import ExitCode, usage_error
from smidgen.cli.options import AsJson, Run
from smidgen.cli.output import Result, say, table

if TYPE_CHECKING:
    from smidgen.export import Bundle, Exported, Tiling
    from smidgen.structures import ObjectSizes


def export(
    run: Run,
    out: Annotated[Path, typer.Option(help="Folder of the bundle; an earlier bundle there is replaced.")],
    format: Annotated[str, typer.Option(help="onnx, openvino, openvino-int8 or torch (torch.export).")] = "onnx",
    size: Annotated[
        str | None,
        typer.Option(metavar="HEIGHTxWIDTH", help="Of the example canvas.", show_default="the model's usual input"),
    ] = None,
    fixed_size: Annotated[bool, typer.Option("--fixed-size", help="Take canvases of this size only.")] = False,
    sampling: Annotated[
        str, typer.Option(help="How deformable attention reads: grid, or gather where GridSample is miscompiled.")
    ] = "grid",
    max_detections: Annotated[
        int | None, typer.Option(min=1, help="Rows of the answer.", show_default="as many as the model gives")
    ] = None,
    score: Annotated[float, typer.Option(help="Threshold that the bundle recommends.")] = 0.3,
    tile: Annotated[
        int | None, typer.Option(min=1, help="Side of tiles for large images, in pixels.", show_default="no tiles")
    ] = None,
    overlap: Annotated[
        float | None,
        typer.Option(
            help="Share of a tile's side that neighbors have in common.", show_default="by the objects in training"
        ),
    ] = None,
    pictures: Annotated[
        list[Path] | None, typer.Option(help="Pictures to compare on (repeatable).", show_default="rendered scenes")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Dataset of an int8 export: train calibrates, val judges.")] = None,
    calibration_images: Annotated[int, typer.Option(min=1, help="Images that an int8 export is calibrated on.")] = 60,
    measured_images: Annotated[int, typer.Option(min=1, help="Images that AP of an int8 export is measured on.")] = 100,
    most_ap_lost: Annotated[float, typer.Option(help="AP that an int8 export may lose and still be verified.")] = 0.02,
    as_json: AsJson = False,
) -> Result:
    """Export a model. Exit code 4 where the file detects something else; it is then kept as OUT-unverified."""
    from smidgen.checkpoints import load
    from smidgen.export import ExportConfig
    from smidgen.export import export as write_verified
    from smidgen.export.verification_pictures import opened

    _need_their_partners(format, tile, overlap, pictures, data)
    model: Any = load(run)
    config = ExportConfig(
        canvas_hw=_size(size),
        fixed_size=fixed_size,
        sampling=_sampling(sampling),
        max_detections=max_detections,
        score=score,
        tiling=None if tile is None else _tiling(tile, overlap, model.object_sizes),
    )
    if format == "openvino-int8":
        assert data is not None
        from smidgen.cli.int8_export import export_int8

        made = export_int8(model, out, config, data, calibration_images, measured_images, most_ap_lost)
    else:
        shown = opened(pictures) if pictures else None
        made = write_verified(model, out, _format(format), config, pictures=shown, say=say)
    return _result(made)


def _need_their_partners(
    format: str, tile: int | None, overlap: float | None, pictures: list[Path] | None, data: Path | None
) -> None:
    """Raises ValueError for options that would have no effect, and an int8 export without labeled images."""
    in_int8 = format == "openvino-int8"
    if in_int8 and data is None:
        raise usage_error("expected labeled images for an int8 export, got none", "give --data")
    if data is not None and not in_int8:
        raise usage_error(f"expected --format openvino-int8 with --data, got {format}", "leave --data out")
    if pictures and in_int8:
        raise usage_error("expected no --pictures: an int8 export is compared on those of --data", "leave them out")
    if overlap is not None and tile is None:
        raise usage_error("expected --tile with --overlap, got none", "give the side of a tile, or leave --overlap out")


def _result(made: Exported) -> Result:
    bundle = made.bundle
    values: dict[str, Any] = {
        "out": str(made.folder),
        "verified": bundle.verified,
        "checks": [_check(check) for check in bundle.checks],
        "measured": bundle.measured,
    }
    return Result(
        values,
        lambda console: _show(console, made),
        ExitCode.OK if bundle.verified else ExitCode.VERIFICATION_FAILED,
    )


def _check(check: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(check)


def _show(console: Console, made: Exported) -> None:
    columns = ("canvas", "images", "same", "missing", "surplus", "box", "score")
    if made.bundle.checks:
        console.print(table("Detections of the file against the model's", columns, map(_row, made.bundle.checks)))
    for name, figure in made.bundle.measured.items():
        console.print(f"{name}: {figure}", markup=False)
    console.print(f"{_verdict(made.bundle)}: {made.folder}", markup=False)


def _verdict(bundle: Bundle) -> str:
    if bundle.verified:
        return "verified"
    if bundle.precision == "int8":
        return "not verified: it loses more AP than --most-ap-lost allows, or there was none to lose. Kept"
    if bundle.checks and not any(check.pairs + check.missing + check.surplus for check in bundle.checks):
        return "not verified: the model finds nothing in these pictures; give others with --pictures. Kept"
    return "NOT the model's detections; kept for a look at"


def _row(check: Any) -> tuple[object, ...]:
    height, width = check.canvas_hw
    differences = (f"{check.worst_box:.1e}", f"{check.worst_score:.1e}")
    return (f"{height}x{width}", check.images, check.pairs, check.missing, check.surplus, *differences)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if found is None or not all(map(int, found.groups())):
        raise ValueError(f"expected a size such as 640x640 (height x width), got {text!r}; change --size")
    return int(found[1]), int(found[2])


def _tiling(tile_px: int, share: float | None, objects: ObjectSizes | None) -> Tiling:
    from smidgen.export import Tiling
    from smidgen.inference.tiling.overlap import chosen_overlap

    if share is not None:
        return Tiling(tile_px=tile_px, overlap=share)
    chosen = chosen_overlap(None, objects, tile_px)
    say(str(chosen))
    return Tiling(tile_px=tile_px, overlap=chosen.pixels / tile_px)


def _sampling(name: str) -> Literal["grid", "gather"]:
    if name not in ("grid", "gather"):
        raise ValueError(f"expected grid or gather, got {name!r}; change --sampling")
    return "gather" if name == "gather" else "grid"


def _format(name: str) -> Literal["onnx", "openvino", "torch"]:
    if name == "onnx":
        return "onnx"
    if name == "openvino":
        return "openvino"
    if name == "torch":
        return "torch"
    raise ValueError(f"expected onnx, openvino, openvino-int8 or torch, got {name!r}; change --format")
