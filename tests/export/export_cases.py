"""Small detectors to export, and a way to run something in a Python that has no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import smidgen
from smidgen.export import Bundle, Canvas
from smidgen.structures import Classes, Preprocessing

BACKBONE: dict[str, Any] = {"channels": [16, 16, 16, 16], "stem_width": 32}
RESIZE = {"short_side": 96, "long_side": 128}
DETR: dict[str, Any] = {
    "num_queries": 12,
    "num_levels": 2,
    "backbone": {"options": BACKBONE, "strides": [16, 32]},
    "transformer": {"width": 32, "num_heads": 2, "feed_forward": 32, "encoder_layers": 1, "decoder_layers": 1},
    "preprocessing": RESIZE,
}
DENSE: dict[str, Any] = {
    "backbone": {"options": BACKBONE, "strides": [8, 16]},
    "num_levels": 3,
    "width": 16,
    "preprocessing": RESIZE,
}
CASCADE: dict[str, Any] = {"small_objects": {"levels": [1]}, "cascade": {"start": 1, "threshold": 0.5}}
# Untrained heads say "background" everywhere; a threshold would leave nothing to compare.
TOWERS: dict[str, Any] = {
    "head_layers": 1,
    "readout": {"score_threshold": 0.0, "candidates": 50, "num_detections": 40},
}
REGIONS: dict[str, Any] = {"num_regions": 30, "region_width": 32, "num_detections": 20, "score_threshold": 0.0}

# What a system needs besides, by how its name begins; None takes a setting away.
BESIDES: dict[str, dict[str, Any]] = {
    "dino_5scale": {"backbone": {"options": BACKBONE, "strides": [4, 8]}},
    "salience_detr": {
        "level_ratios": [0.8, 1.0],
        "layer_ratios": [0.6],
        "level_limits_px": [64, 99999],
        "densely_attended": 10,
    },
    "salience_detr_5scale": {"backbone": {"options": BACKBONE, "strides": [4, 8]}},
    "paq": {"patterns": {"number": 8, "rank": 4, "extractor_width": 8}},
    "dq_detr": {"num_queries": None, "count_thresholds": [3], "budgets": [6, 12]},
    "lsq_detr": {
        "num_queries": None,
        "count_thresholds": [3],
        "budgets": [6, 12],
        "quotas": {6: [0.6, 0.4], 12: [0.8, 0.2]},
    },
    "retinanet": TOWERS,
    "fcos": TOWERS,
    "query_det": CASCADE | TOWERS,
    "faster_rcnn": REGIONS,
    "query_det_faster_rcnn": {"head_layers": None, "readout": None} | REGIONS,
}
BESIDES["paq_lsq_detr"] = BESIDES["lsq_detr"]
DENSE_NAMES = ("retinanet", "fcos", "faster_rcnn", "query_det")


def smallest(name: str) -> dict[str, Any]:
    """Settings that leave of a nano system hardly more than its operators: it is exported in a third of the time."""
    settings = dict(DENSE if name.startswith(DENSE_NAMES) else DETR)
    for prefix, changes in BESIDES.items():
        if name.startswith(prefix):
            settings |= changes
    return {key: value for key, value in settings.items() if value is not None}


WITHOUT_TORCH = """
import runpy, sys
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "smidgen", "scipy", "onnx"):
            raise ImportError(f"{name} is not here")
sys.meta_path.insert(0, Refusing())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def make(name: str, **settings: Any) -> Any:
    """A detector in evaluation mode whose class scores differ, as a trained one's do."""
    torch.manual_seed(0)
    model = smidgen.create_model(name, num_classes=3, **settings).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
            if "fcos" in name and key.endswith("box_prediction.bias"):
                parameter.add_(1.0)  # distances to the sides, cut at zero: most boxes would be empty
    return model


def run_without_torch(program: Path, *arguments: object) -> str:
    """Standard output of `python program arguments` where torch and the like cannot be imported."""
    words = [sys.executable, "-c", WITHOUT_TORCH, str(program), *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_bundle(fixed_hw: tuple[int, int] | None = None) -> Bundle:
    """A bundle without a file, of one class."""
    return Bundle(
        system="dino_nano",
        runtime="onnxruntime",
        preprocessing=Preprocessing(short_side=64, long_side=96),
        canvas=Canvas(least_hw=(8, 8), fixed_hw=fixed_hw),
        classes=Classes(("boat",), (1,)),
        score=0.3,
        max_detections=1,
    )
