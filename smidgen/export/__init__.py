"""Trained detectors outside of PyTorch: verified bundles for ONNX Runtime, OpenVINO and torch.export."""

from smidgen.export.bundle import Bundle, Canvas, Check, Tiling, is_bundle, read_bundle
from smidgen.export.bundle_detector import BundleDetector, load_bundle
from smidgen.export.comparison import Tolerance
from smidgen.export.exporting import ExportConfig, Exported, export, unverified_place
from smidgen.export.quantization import quantize

__all__ = [
    "Bundle",
    "BundleDetector",
    "Canvas",
    "Check",
    "ExportConfig",
    "Exported",
    "Tiling",
    "Tolerance",
    "export",
    "is_bundle",
    "load_bundle",
    "quantize",
    "read_bundle",
    "unverified_place",
]
