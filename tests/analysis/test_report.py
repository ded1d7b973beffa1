from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
from PIL import Image

from smidgen.analysis import Figure, Report, Section, picture_source, render_report


def a_report(**parts: object) -> str:
    section = Section(title="One", paragraphs=["a < b"], **parts)  # type: ignore[arg-type]
    return render_report(Report(title="T & T", lead="lead", facts=[("0.5", "AP")], sections=[section]))


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

    page = a_report(tables=[[["class", "AP"], ["<car>", "0.1"]]])
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
