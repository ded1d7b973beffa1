"""docs/performance.md: its tables are those of the results, and curves hold what was measured."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from measuring.growth_chart import PICTURES, Panel, curves_of, figure_of  # noqa: E402
from measuring.tables import PAGE, tables, with_tables  # noqa: E402


def test_page_shows_the_results_that_are_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert with_tables(page) == page, "run `python benchmarks/measuring/tables.py`"


def variant(name: str, *seconds: float, peak: float | None = None) -> dict[str, Any]:
    ratio = {"median": 2.0, "low": 1.5, "high": 2.5}
    return {"name": name, "seconds": list(seconds), "ratio": ratio, "peak_mib": peak}


def results(*measured: dict[str, Any]) -> dict[str, Any]:
    machine = {"git": "0123456789+", "started": "2026-11-21T19:00:00+00:00"}
    return {"benchmark": "work", "machine": machine, "measurements": measured, "counted": [{"name": "sum", "of": 0.25}]}


def test_table_has_medians_ratios_and_memory() -> None:
    rows = [variant("peer", 0.3, 0.2, 0.4, peak=1234.4), variant("ours", 0.01, 0.02, 0.03)]
    measured = {"name": "adding", "clock": "CPU time", "against": "peer", "load": [1.0, 2.6], "variants": rows}
    lines = tables(results(measured)).splitlines()
    assert lines[0] == "`benchmarks/work.py` at commit 0123456, 2026-11-21T19:00."
    assert lines[4:6] == [
        "| adding (3, 1 to 3) | peer | 300 (200-400) | 1 | 1,234 |",
        "|  | ours | 20 (10-30) | 2.00 (1.50-2.50) |  |",
    ]
    assert lines[-1] == "- sum: of 0.25"


def point(axis: str, place: float, **peaks: float) -> dict[str, Any]:
    return {"at": {axis: place}, "variants": [variant(name, peak, 2 * peak, peak=peak) for name, peak in peaks.items()]}


def test_curve_is_ordered_and_of_its_axis_alone() -> None:
    measured = [point("batch", 4, ours=8), point("side_px", 9, ours=1), point("batch", 2, ours=6), {"at": None}]
    assert curves_of(measured, Panel("batch", "", "")) == {"ours": [(2, [6, 12]), (4, [8, 16])]}
    assert curves_of(measured, Panel("batch", "", "", per_image=True)) == {"ours": [(2, [3, 6]), (4, [2, 4])]}
    assert curves_of(measured, Panel("batch", "", "", memory=True)) == {"ours": [(2, [6]), (4, [8])]}


def test_every_picture_draws_its_curves() -> None:
    for panels in PICTURES.values():
        measured = [point(panel.axis, place, one=place, other=2 * place) for panel in panels for place in (10, 100)]
        figure = figure_of(panels, [curves_of(measured, panel) for panel in panels])
        assert [len(axes.lines) for axes in figure.axes] == [2, 2]
        assert [axes.get_xlabel() for axes in figure.axes] == [panel.horizontal for panel in panels]
