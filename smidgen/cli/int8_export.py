"""An eight-bit export with the AP that it costs, on a dataset's labeled images."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.cli.output import say

if TYPE_CHECKING:
    from smidgen.data import DetectionDataset
    from smidgen.export import ExportConfig, Exported


def export_int8(
    model: Any,
    out: Path,
    config: ExportConfig,
    data: Path,
    calibration_images: int,
    measured_images: int,
    most_ap_lost: float,
) -> Exported:
    """Export in float32, verify, quantize, and measure both files. The int8 bundle counts as verified if the float one
    finds something and it loses at most `most_ap_lost` of that AP; the float one is not kept, unless it already differs
    from the model.
    """
    from smidgen.data import open_dataset, read_image
    from smidgen.export import Exported, export, quantize, unverified_place
    from smidgen.export.bundle import write_bundle
    from smidgen.export.exporting import require_replaceable, settle
    from smidgen.export.missing_package import required

    required("nncf", "openvino")
    require_replaceable(out)
    calibration = _evenly(open_dataset(data, "train"), calibration_images)
    judged = _evenly(open_dataset(data, "val"), measured_images)
    pictures = [read_image(record.file) for record in calibration.records]
    plain = export(model, out.with_name(out.name + "-fp32"), "openvino", config, pictures=pictures[:3], say=say)
    if not plain.bundle.verified:
        return plain
    say(f"quantizing on {len(pictures)} images")
    waiting = unverified_place(out)
    try:
        bundle = quantize(plain.folder, pictures, waiting)
        measured = _measured(plain.folder, waiting, judged) | {"calibration_images": len(pictures)}
    finally:
        shutil.rmtree(plain.folder)
    bundle = replace(bundle, measured=measured, verified=_loses_little(measured, most_ap_lost))
    write_bundle(bundle, waiting)
    return Exported(settle(waiting, out) if bundle.verified else waiting, bundle)


def _loses_little(measured: dict[str, Any], most_ap_lost: float) -> bool:
    """Who finds nothing has nothing to lose, and cannot be judged."""
    return bool(measured["AP_fp32"] > 0 and measured["AP_fp32"] - measured["AP_int8"] <= most_ap_lost)


def _measured(plain: Path, small: Path, judged: DetectionDataset) -> dict[str, Any]:
    """AP of both files by the coco protocol, and on how many images."""
    from smidgen.evaluation import evaluate
    from smidgen.export import load_bundle

    figures: dict[str, Any] = {}
    for name, folder in (("fp32", plain), ("int8", small)):
        say(f"measuring {name} on {len(judged)} images")
        metrics = evaluate(load_bundle(folder), judged, protocol="coco", batch_size=1, device="cpu").metrics
        figures |= {f"{metric}_{name}": round(metrics[metric], 4) for metric in ("AP", "AP50")}
    return figures | {"images": len(judged), "split": judged.split, "protocol": "coco"}


def _evenly(dataset: DetectionDataset, count: int) -> DetectionDataset:
    """So many images, spread over the dataset."""
    step = max(1, len(dataset) // count)
    return dataset.subset(range(0, len(dataset), step)[:count])
