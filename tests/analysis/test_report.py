from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
from PIL import Image

from smidgen.analysis import Figure, Report, Section, picture_source, render_report
from smidgen.analysis.report import Chapter


def a_report(**parts: object) -> str:
    section = Section(title="One", paragraphs=["a < b"], **parts)  # type: ignore[arg-type]
    return render_report(Report(title="T & T", lead="lead", facts=[("0.5", "AP")], sections=[section]))


def a_long_report() -> str:
    """Two chapters of two sections, one with three rows of pictures."""
    picture = Figure(picture_source(Image.new("RGB", (8, 8))), "a picture", (8, 8))
    sections = [Section(title="First", pictures=[[picture]] * 3, more="2 more"), Section(title="Second")]
    chapters = [Chapter(title=f"Part <{letter}>", lead="lead", sections=sections) for letter in "AB"]
    return render_report(
        Report(title="T", lead="lead", summary=["In short & plain."], small_print="s", chapters=chapters)
    )


def test_chapters_are_linked_from_bar_and_contents_and_further_pictures_wait_to_be_opened() -> None:
    page = a_long_report()
    assert page.count('href="#part-2"') == 2 and page.count('id="part-2"') == 1
    assert set(re.findall(r'href="#([^"]*)"', page)) == set(re.findall(r' id="([^"]*)"', page))
    folded = page.split('<details class="more"><summary>2 more</summary>')
    assert len(folded) == 3 and folded[1].split("</details>")[0].count("<figure") == 2
    assert "In short &amp; plain." in page and "Part &lt;A&gt;" in page


def test_the_page_asks_for_nothing_from_outside() -> None:
    picture = picture_source(Image.new("RGB", (8, 8)))
    page = a_report(pictures=[[Figure(picture, "left"), Figure(picture, "right")]])
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == 2 and all(source.startswith("data:image/") for source in sources)
    assert "http" not in page and "url(" not in page and "<script" not in page


def test_every_tag_is_closed_and_text_is_escaped() -> None:
    class Tags(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "img"):
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    page = a_report(tables=[[["class", "AP"], ["<car>", "0.1"]]]) + a_long_report()
    parser = Tags()
    parser.feed(page)
    assert parser.open == []
    assert "a &lt; b" in page and "&lt;car&gt;" in page and "T &amp; T" in page


def test_pictures_take_the_smaller_format() -> None:
    def decoded(image: Image.Image) -> tuple[str, Image.Image]:
        source = picture_source(image)
        return source[:16], Image.open(BytesIO(base64.b64decode(source.split(",")[1])))

    flat = Image.new("RGB", (64, 64), (10, 20, 30))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    assert decoded(flat)[0] == "data:image/png;b" and decoded(noise)[0] == "data:image/jpeg;"
    assert decoded(flat)[1].getpixel((5, 5)) == (10, 20, 30)
