"""The tables of docs/performance.md, written from benchmarks/results so that page and results cannot disagree.

    python benchmarks/measuring/tables.py

replaces what stands between `<!-- results: NAME -->` and `<!-- end -->` by the measurements of NAME.json.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE, RESULTS = ROOT / "docs" / "performance.md", ROOT / "benchmarks" / "results"
BLOCK = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", flags=re.DOTALL)


def main() -> None:
    from smidgen.checkpoints.atomic_write import write_atomically

    text = with_tables(PAGE.read_text(encoding="utf-8"))
    write_atomically(PAGE, lambda partial: partial.write_text(text, encoding="utf-8"))


def with_tables(page: str) -> str:
    """The page with the tables of the results that are there; a block without results stays as it is."""
    return BLOCK.sub(_filled, page)


def _filled(block: re.Match[str]) -> str:
    path = RESULTS / f"{block[2]}.json"
    return f"{block[1]}{tables(json.loads(path.read_text(encoding='utf-8')))}{block[3]}" if path.exists() else block[0]


def tables(results: dict[str, Any]) -> str:
    """Machine and time in a line, then a table of all measurements if there are any, then what was counted."""
    machine = results["machine"]
    lines = [
        f"`benchmarks/{results['benchmark']}.py` at commit {machine['git'][:7]}, {machine['started'][:16]}.",
        "",
        *_table(results["measurements"]),
        *(f"- {each.pop('name')}: {_figures(each)}" for each in map(dict, results["counted"])),
    ]
    return "\n".join([*lines, ""])


def _table(measurements: list[dict[str, Any]]) -> list[str]:
    if not measurements:
        return []
    return [
        f"| work (rounds, load) | variant | {measurements[0]['clock']}, ms | times as fast | peak, MiB |",
        "|---|---|---|---|---|",
        *(row for measured in measurements for row in _rows(measured)),
        "",
    ]


def _rows(measured: dict[str, Any]) -> list[str]:
    """A row for each variant; what the work is stands in the first."""
    before, after = measured["load"]
    work = f"{measured['name']} ({len(measured['variants'][0]['seconds'])}, {before:.0f} to {after:.0f})"
    titles = [work, *[""] * (len(measured["variants"]) - 1)]
    rows = zip(titles, measured["variants"], strict=True)
    return [f"| {title} | {_cells(variant, measured['against'])} |" for title, variant in rows]


def _cells(variant: dict[str, Any], against: str) -> str:
    low, middle, high = (_milliseconds(side(variant["seconds"])) for side in (min, median, max))
    ratio, peak = variant["ratio"], variant["peak_mib"]
    times = f"{ratio['median']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f})" if variant["name"] != against else "1"
    return f"{variant['name']} | {middle} ({low}-{high}) | {times} | {'' if peak is None else f'{peak:,.0f}'}"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.0f}" if seconds >= 0.1 else f"{1000 * seconds:.3g}"


def _figures(counted: dict[str, Any]) -> str:
    shown = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in counted.items()}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown.items())


if __name__ == "__main__":
    main()
