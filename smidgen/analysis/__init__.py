"""Pictures and tables that explain a model."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from smidgen.analysis.charts import Series, line_chart
from smidgen.analysis.report import Figure, Report, Section, picture_source, render_report

if TYPE_CHECKING:
    from smidgen.analysis.count_pictures import CountComparison, compare_counts, counting_chart
    from smidgen.analysis.explanation import Explanation, explain
    from smidgen.analysis.observation import Observation, observe
    from smidgen.analysis.panels import Picture
    from smidgen.analysis.query_origins import OriginCounts, count_origins, query_level_chart, query_start_picture
    from smidgen.analysis.salience_pictures import refined_tokens_picture, salience_picture

# Public name -> module that defines it, imported on first use: charts and pages need neither torch nor matplotlib.
_PUBLIC: dict[str, str] = {
    "CountComparison": "smidgen.analysis.count_pictures",
    "Explanation": "smidgen.analysis.explanation",
    "Observation": "smidgen.analysis.observation",
    "OriginCounts": "smidgen.analysis.query_origins",
    "Picture": "smidgen.analysis.panels",
    "compare_counts": "smidgen.analysis.count_pictures",
    "count_origins": "smidgen.analysis.query_origins",
    "counting_chart": "smidgen.analysis.count_pictures",
    "explain": "smidgen.analysis.explanation",
    "observe": "smidgen.analysis.observation",
    "query_level_chart": "smidgen.analysis.query_origins",
    "query_start_picture": "smidgen.analysis.query_origins",
    "refined_tokens_picture": "smidgen.analysis.salience_pictures",
    "salience_picture": "smidgen.analysis.salience_pictures",
}

__all__ = [
    "CountComparison",
    "Explanation",
    "Figure",
    "Observation",
    "OriginCounts",
    "Picture",
    "Report",
    "Section",
    "Series",
    "compare_counts",
    "count_origins",
    "counting_chart",
    "explain",
    "line_chart",
    "observe",
    "picture_source",
    "query_level_chart",
    "query_start_picture",
    "refined_tokens_picture",
    "render_report",
    "salience_picture",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'smidgen.analysis' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
