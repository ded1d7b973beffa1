"""Pictures and tables that explain a model."""

from smidgen.analysis.charts import Series, line_chart
from smidgen.analysis.report import Figure, Report, Section, picture_source, render_report

__all__ = ["Figure", "Report", "Section", "Series", "line_chart", "picture_source", "render_report"]
