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
    """A picture (source: what `picture_source` gives) with the words below it.

    size_px: width and height that it is shown at where there is room; None = as wide as its column. On a narrow window
    a picture with a size stays readable and moves in its frame.
    """

    source: str
    caption: str
    size_px: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading, paragraphs of plain text, a list of points, then ready HTML (charts side by side, blocks over the
    whole width), tables and rows of pictures.

    tables: rows of cells, the first being the header; the first column is text, the others are numbers. pictures: rows
    whose figures belong together and stand side by side where there is room. more: the words behind which all rows of
    pictures but the first wait to be opened; empty = all are shown.
    """

    title: str
    paragraphs: Sequence[str] = ()
    points: Sequence[str] = ()
    charts: Sequence[str] = ()
    blocks: Sequence[str] = ()
    tables: Sequence[Sequence[Sequence[str]]] = ()
    pictures: Sequence[Sequence[Figure]] = ()
    more: str = ""


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """Sections under one question, each of which can be folded away. lead: what the chapter answers."""

    title: str
    lead: str
    sections: Sequence[Section]


@dataclass(frozen=True, kw_only=True)
class Report:
    """title, a lead sentence, the main figures as (value, what it is), and sections.

    summary: what the page comes to, in a few plain sentences. small_print: what the figures rest on. chapters: of a
    long page, after its sections; a bar that stays in sight lists them, and the contents list their sections, too.
    """

    title: str
    lead: str
    summary: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = field(default=())
    small_print: str = ""
    sections: Sequence[Section] = ()
    chapters: Sequence[Chapter] = ()


def render_report(report: Report) -> str:
    """The page."""
    facts = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for value, name in report.facts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>{STYLE}</style></head><body>{_bar(report)}<main>"
        f'<header id="top"><h1>{escape(report.title)}</h1><p class="lead">{escape(report.lead)}</p></header>'
        f'{_summary(report.summary)}<div class="facts">{facts}</div>{_small_print(report.small_print)}'
        f"{_contents(report.chapters)}"
        f"{''.join(_section(section) for section in report.sections)}"
        f"{''.join(_chapter(number, chapter) for number, chapter in enumerate(report.chapters, 1))}"
        "</main></body></html>\n"
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


def _bar(report: Report) -> str:
    """Links to the chapters that stay at the top of the window."""
    links = "".join(
        f'<a href="#part-{number}">{escape(chapter.title)}</a>' for number, chapter in enumerate(report.chapters, 1)
    )
    return f'<nav class="bar"><a href="#top">Top</a>{links}</nav>' if links else ""


def _summary(sentences: Sequence[str]) -> str:
    words = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    return f'<div class="summary">{words}</div>' if words else ""


def _small_print(words: str) -> str:
    return f'<p class="note">{escape(words)}</p>' if words else ""


def _contents(chapters: Sequence[Chapter]) -> str:
    items = "".join(
        f'<li><a href="#part-{number}">{escape(chapter.title)}</a><ul>'
        + "".join(
            f'<li><a href="#part-{number}-{place}">{escape(section.title)}</a></li>'
            for place, section in enumerate(chapter.sections, 1)
        )
        + "</ul></li>"
        for number, chapter in enumerate(chapters, 1)
    )
    return f'<nav class="contents"><ol>{items}</ol></nav>' if items else ""


def _chapter(number: int, chapter: Chapter) -> str:
    sections = "".join(
        f'<details class="section" id="part-{number}-{place}" open>'
        f"<summary><h3>{escape(section.title)}</h3></summary>{_content(section)}</details>"
        for place, section in enumerate(chapter.sections, 1)
    )
    lead = f'<p class="lead">{escape(chapter.lead)}</p>'
    return f'<section class="chapter" id="part-{number}"><h2>{escape(chapter.title)}</h2>{lead}{sections}</section>'


def _section(section: Section) -> str:
    return f"<section><h2>{escape(section.title)}</h2>{_content(section)}</section>"


def _content(section: Section) -> str:
    paragraphs = "".join(f"<p>{escape(text)}</p>" for text in section.paragraphs)
    points = "".join(f"<li>{escape(point)}</li>" for point in section.points)
    points = f'<ul class="points">{points}</ul>' if points else ""
    charts = f'<div class="charts">{"".join(section.charts)}</div>' if section.charts else ""
    tables = "".join(_table(rows) for rows in section.tables if rows)
    tables = f'<div class="tables">{tables}</div>' if tables else ""
    return f"{paragraphs}{points}{charts}{''.join(section.blocks)}{tables}{_pictures(section)}"


def _pictures(section: Section) -> str:
    rows = [_row(row) for row in section.pictures]
    if not section.more or len(rows) < 2:
        return "".join(rows)
    folded = f'<details class="more"><summary>{escape(section.more)}</summary>{"".join(rows[1:])}</details>'
    return rows[0] + folded


def _table(rows: Sequence[Sequence[str]]) -> str:
    header, *body = rows
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body)
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def _row(figures: Sequence[Figure]) -> str:
    """Small pictures stand as many side by side as there is room for."""
    small = all(figure.size_px is not None and figure.size_px[0] <= SMALL_PX for figure in figures)
    kind = "pictures small" if small and figures else "pictures"
    return f'<div class="{kind}">{"".join(_figure(figure) for figure in figures)}</div>'


def _figure(figure: Figure) -> str:
    words = escape(figure.caption)
    frame, size = "", ""
    if figure.size_px is not None:
        width, height = figure.size_px
        frame = f' style="--width: {width}px"'
        size = f' width="{width}" height="{height}"'
    return (
        f'<figure{frame}><div class="pan"><img src="{figure.source}" alt="{words}"{size} loading="lazy"></div>'
        f"<figcaption>{words}</figcaption></figure>"
    )


SMALL_PX = 320
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
.chapter { border-top: 3px solid var(--rule); margin-top: 3rem; scroll-margin-top: 2.6rem; }
.chapter > h2 { font-size: 1.6rem; margin-top: 1.4rem; }
h3 { display: inline; font-size: 1.15rem; margin: 0; }
.section { margin: 1.8rem 0; scroll-margin-top: 3rem; }
summary { cursor: pointer; }
.section > summary { margin-bottom: .4rem; }
.section > summary::marker, .more > summary { color: var(--quiet); }
.more { margin: .5rem 0 1rem; }
.more > summary { padding: .3rem 0; }
a { color: var(--line0); text-decoration: none; }
a:hover { text-decoration: underline; }
.bar { position: sticky; top: 0; z-index: 1; display: flex; gap: 1.3rem; overflow-x: auto; white-space: nowrap;
  background: var(--ground); border-bottom: 1px solid var(--rule); padding: .45rem 1.25rem; font-size: .875rem; }
.summary { border-left: 4px solid var(--line1); padding: .1rem 0 .1rem 1.1rem; margin: 1.4rem 0; font-size: 1.1rem; }
.contents { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: .9rem 1.2rem;
  margin-top: 1.4rem; font-size: .9375rem; }
.contents ol { columns: 17rem; column-gap: 2rem; margin: 0; padding: 0; list-style: none; }
.contents ol > li { break-inside: avoid; margin-bottom: .8rem; font-weight: 600; }
.contents ul { margin: 0; padding: 0; list-style: none; font-weight: 400; }
.shaded td { min-width: 4.2rem; }
.shaded td:first-child, .shaded th:first-child { position: sticky; left: 0; background: var(--card); }
.shaded td.sum { background: var(--ground); }
.shaded .quiet { color: var(--quiet); }
p { max-width: 46rem; margin: .4rem 0 .8rem; }
.points { max-width: 46rem; margin: -.4rem 0 .8rem; padding-left: 1.3rem; }
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
.charts + .tables { margin-top: 1rem; }
.table { overflow-x: auto; max-width: 100%; padding: .4rem .8rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9375rem; }
th { color: var(--quiet); font-weight: 600; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
@media (max-width: 600px) { th, td { padding: .3rem .45rem; } .table { padding: .4rem; } }
tbody tr { border-top: 1px solid var(--rule); }
.pictures { display: grid; gap: 1rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); }
.pictures > * { min-width: 0; }
figure { margin: 0; padding: .5rem; }
figure img { display: block; width: 100%; height: auto; border-radius: 6px; }
.pan { overflow-x: auto; }
.small { grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: .7rem; }
.small figcaption { font-size: .8125rem; line-height: 1.35; }
figure[style] img { width: var(--width); max-width: 100%; min-width: min(var(--width), 640px); margin: 0 auto; }
.small figure[style] img { width: 100%; min-width: 0; }
@media (prefers-color-scheme: dark) { figure img { filter: brightness(.86); } }
figcaption { padding: .4rem .2rem 0; }
"""
