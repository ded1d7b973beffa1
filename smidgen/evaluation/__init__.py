"""How good detections are, by protocols that are data, and what a model costs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smidgen.evaluation.bootstrap import bootstrap_intervals as bootstrap_intervals
    from smidgen.evaluation.comparison import Comparison as Comparison
    from smidgen.evaluation.comparison import compare as compare
    from smidgen.evaluation.cost import Cost as Cost
    from smidgen.evaluation.cost import StageCost as StageCost
    from smidgen.evaluation.cost import profile as profile
    from smidgen.evaluation.detect_and_score import evaluate as evaluate
    from smidgen.evaluation.evaluation import Evaluation as Evaluation
    from smidgen.evaluation.ground_truth_source import open_ground_truth as open_ground_truth
    from smidgen.evaluation.prediction_source import open_predictions as open_predictions
    from smidgen.evaluation.predictions_file import read_predictions as read_predictions
    from smidgen.evaluation.predictions_file import write_predictions as write_predictions
    from smidgen.evaluation.protocol import Protocol as Protocol
    from smidgen.evaluation.protocol import list_protocols as list_protocols
    from smidgen.evaluation.protocol import load_protocol as load_protocol
    from smidgen.evaluation.scoring import score as score
    from smidgen.evaluation.size_sweep import SizeSweep as SizeSweep
    from smidgen.evaluation.size_sweep import sweep_size as sweep_size
    from smidgen.evaluation.window_merging import merge_windows as merge_windows
    from smidgen.evaluation.window_merging import read_windows as read_windows

# Public name -> module that defines it, imported on first use: scoring somebody's file must not load torch.
_PUBLIC: dict[str, str] = {
    "Comparison": "smidgen.evaluation.comparison",
    "Cost": "smidgen.evaluation.cost",
    "Evaluation": "smidgen.evaluation.evaluation",
    "Protocol": "smidgen.evaluation.protocol",
    "SizeSweep": "smidgen.evaluation.size_sweep",
    "StageCost": "smidgen.evaluation.cost",
    "bootstrap_intervals": "smidgen.evaluation.bootstrap",
    "compare": "smidgen.evaluation.comparison",
    "evaluate": "smidgen.evaluation.detect_and_score",
    "list_protocols": "smidgen.evaluation.protocol",
    "load_protocol": "smidgen.evaluation.protocol",
    "merge_windows": "smidgen.evaluation.window_merging",
    "open_ground_truth": "smidgen.evaluation.ground_truth_source",
    "open_predictions": "smidgen.evaluation.prediction_source",
    "profile": "smidgen.evaluation.cost",
    "read_predictions": "smidgen.evaluation.predictions_file",
    "read_windows": "smidgen.evaluation.window_merging",
    "score": "smidgen.evaluation.scoring",
    "sweep_size": "smidgen.evaluation.size_sweep",
    "write_predictions": "smidgen.evaluation.predictions_file",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'smidgen.evaluation' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
