"""A report as one HTML file that needs nothing else: style, charts and pictures are inside."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from io import BytesIO
from pathlib import Path

from PIL import Image


@dataclass(frozen=True)
class Figure:
    """A picture (source: what `picture_source` gives) with the words below it."""

    source: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading, paragraphs of plain text, then ready HTML (charts), tables and rows of pictures.

    tables: rows of cells, the first being the header; the first column is text, the others are numbers. pictures: rows
    whose figures belong together and stand side by side where there is room.
    """

    title: str
    paragraphs: Sequence[str] = ()
    charts: Sequence[str] = ()
    tables: Sequence[Sequence[Sequence[str]]] = ()
    pictures: Sequence[Sequence[Figure]] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """title, a lead sentence, the main figures as (value, what it is), and sections."""

    title: str
    lead: str
    facts: Sequence[tuple[str, str]] = field(default=())
    sections: Sequence[Section]


def render_report(report: Report) -> str:
    """The page."""
    facts = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for value, name in report.facts)
    sections = "".join(_section(section) for section in report.sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>{STYLE}</style></head><body><main>"
        f'<header><h1>{escape(report.title)}</h1><p class="lead">{escape(report.lead)}</p></header>'
        f'<div class="facts">{facts}</div>{sections}</main></body></html>\n'
    )


def picture_source(picture: Image.Image | Path) -> str:
    """A data address that holds the picture: a file as it is, an image as PNG or JPEG, whichever is smaller."""
    if isinstance(picture, Path):
        kind = "png" if picture.suffix.lower() == ".png" else "jpeg"
        return _address(picture.read_bytes(), kind)
    encoded = {kind: _encoded(picture, kind) for kind in ("png", "jpeg")}
    smallest = min(encoded, key=lambda kind: len(encoded[kind]))
    return _address(encoded[smallest], smallest)


def _address(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _encoded(picture: Image.Image, kind: str) -> bytes:
    stream = BytesIO()
    picture.convert("RGB").save(stream, format=kind, quality=88)
    return stream.getvalue()


def _section(section: Section) -> str:
    paragraphs = "".join(f"<p>{escape(text)}</p>" for text in section.paragraphs)
    charts = f'<div class="charts">{"".join(section.charts)}</div>' if section.charts else ""
    tables = "".join(_table(rows) for rows in section.tables)
    tables = f'<div class="tables">{tables}</div>' if tables else ""
    pictures = "".join(_row(row) for row in section.pictures)
    return f"<section><h2>{escape(section.title)}</h2>{paragraphs}{charts}{tables}{pictures}</section>"


def _table(rows: Sequence[Sequence[str]]) -> str:
    header, *body = rows
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body)
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def _row(figures: Sequence[Figure]) -> str:
    cells = "".join(
        f'<figure><img src="{figure.source}" alt="{escape(figure.caption)}" loading="lazy">'
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
        for figure in figures
    )
    return f'<div class="pictures">{cells}</div>'


STYLE = """
:root { color-scheme: light dark; --ground: #f7f7f4; --card: #ffffff; --text: #1d2126; --quiet: #656d76;
  --rule: #e2e2dc; --line0: #0b6bcb; --line1: #d9480f; --line2: #2b8a3e; --line3: #9c36b5; }
@media (prefers-color-scheme: dark) { :root { --ground: #15181c; --card: #1d2126; --text: #e7e9ec; --quiet: #9aa4ae;
  --rule: #323840; --line0: #58a6ff; --line1: #ff9b57; --line2: #5fd07a; --line3: #d79bff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: clamp(1.6rem, 4vw, 2.3rem); line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .5rem; }
p { max-width: 46rem; margin: .4rem 0 .8rem; }
.lead { font-size: 1.1rem; color: var(--quiet); }
.note, figcaption { color: var(--quiet); font-size: .875rem; }
.facts { display: grid; gap: .75rem; margin-top: 1.4rem; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); }
.facts div, .chart, .table, figure { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; }
.facts div { padding: .8rem 1rem; }
.facts b { display: block; font-size: 1.5rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.facts span { color: var(--quiet); font-size: .875rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: 1rem; }
.chart { padding: .75rem; }
.chart svg { display: block; width: 100%; height: auto; }
.axis { fill: var(--quiet); font-size: 12px; }
.grid { stroke: var(--rule); stroke-width: 1; }
polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
.stroke0 { stroke: var(--line0); } .stroke1 { stroke: var(--line1); }
.stroke2 { stroke: var(--line2); } .stroke3 { stroke: var(--line3); }
.fill0 { fill: var(--line0); } .fill1 { fill: var(--line1); }
.fill2 { fill: var(--line2); } .fill3 { fill: var(--line3); }
i.stroke0 { background: var(--line0); } i.stroke1 { background: var(--line1); }
i.stroke2 { background: var(--line2); } i.stroke3 { background: var(--line3); }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: .3rem .5rem 0; font-size: .875rem; }
.legend i { display: inline-block; width: 14px; height: 3px; margin-right: .4rem; vertical-align: middle; }
.tables { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
.table { overflow-x: auto; max-width: 100%; padding: .4rem .8rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9375rem; }
th { color: var(--quiet); font-weight: 600; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
tbody tr { border-top: 1px solid var(--rule); }
.pictures { display: grid; gap: 1rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); }
figure { margin: 0; padding: .5rem; }
figure img { display: block; width: 100%; height: auto; border-radius: 6px; }
figcaption { padding: .4rem .2rem 0; }
"""
