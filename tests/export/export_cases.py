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

TINY_DETR: dict[str, Any] = {
    "num_queries": 12,
    "num_levels": 2,
    "backbone": {"options": {"channels": [16, 16, 16, 16], "stem_width": 32}, "strides": [16, 32]},
    "transformer": {"width": 32, "num_heads": 2, "feed_forward": 32, "encoder_layers": 1, "decoder_layers": 1},
    "preprocessing": {"short_side": 96, "long_side": 128},
}
TINY_DENSE: dict[str, Any] = {
    "backbone": {"options": {"channels": [16, 16, 16, 16], "stem_width": 32}, "strides": [8, 16]},
    "num_levels": 3,
    "width": 16,
    "head_layers": 1,
    "readout": {"score_threshold": 0.0, "candidates": 50, "num_detections": 40},
    "preprocessing": {"short_side": 96, "long_side": 128},
}

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
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
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
