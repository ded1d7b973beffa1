"""The page of statistics stands alone, and says what was planted."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from smidgen.analysis.bar_chart import Bars, Row, bar_chart, lying_bars
from smidgen.analysis.dataset_advice import advise
from smidgen.analysis.heat_grid import heat_grid
from smidgen.analysis.statistics_page import statistics_page
from smidgen.data.dataset import DetectionDataset, Record
from smidgen.data.statistics.describe import describe
from smidgen.structures import Classes, Preprocessing


def page_of(objects: int, images: int = 2, name: str = "car") -> str:
    boxes = np.array([(10 * place, 5, 10 * place + 6, 11) for place in range(objects)], np.float32).reshape(-1, 4)
    records = [
        Record(Path("a.png"), i, (100, 400), boxes, np.zeros(objects, np.int64), np.zeros((0, 4), np.float32))
        for i in range(images)
    ]
    dataset = DetectionDataset(Path("planted"), "made by hand", "train", Classes((name,), (1,)), records)
    seen = Preprocessing(short_side=100, long_side=400)
    return statistics_page(dataset, describe(dataset, seen), advise(dataset, seen), seen)


def test_the_page_needs_nothing_else_and_says_what_is_there() -> None:
    page = page_of(30)
    assert not re.findall(r"(?:src|href|url)\s*[=(]", page)
    assert "<b>60</b><span>objects</span>" in page
    assert page.count("recall at most") == 8  # seven choices and the table in short
    for svg in re.findall(r"<svg.*?</svg>", page):
        ElementTree.fromstring(svg)


@pytest.mark.parametrize(("objects", "images"), [(0, 3), (0, 0)])
def test_a_page_of_nothing(objects: int, images: int) -> None:
    page = page_of(objects, images)
    assert "There are no objects" in page and "nothing to count" in page
    assert "nan" not in re.sub(r"<style>.*?</style>", "", page)


def test_names_of_classes_are_text() -> None:
    page = page_of(3, name="<b>car & boat</b>")
    assert "<b>car &" not in page and "&lt;b&gt;car &amp;" in page


def test_bars_are_as_high_as_their_values() -> None:
    html = bar_chart(["a", "b"], [Bars("n", [1, 4])], horizontal="x", label="bars")
    heights = [float(height) for height in re.findall(r'<rect[^>]* height="([\d.]+)"', html)]
    assert heights[1] == pytest.approx(4 * heights[0], abs=0.02)
    rows = lying_bars([Row("a", 0.25, "25 %"), Row("b", 1.0, "100 %")], label="bounds", chosen=1)
    widths = [float(width) for width in re.findall(r' width="([\d.]+)"', rows)]
    assert widths[1] == pytest.approx(4 * widths[0], abs=0.2)
    assert rows.index('class="fill1"') > rows.index('class="fill0"')


def test_cells_are_as_full_as_their_values() -> None:
    html = heat_grid([[0, 1], [2, 4]], label="grid")
    assert re.findall(r'fill-opacity="([\d.]+)"', html) == ["0.250", "0.500", "1.000"]
    assert "nothing to count" in heat_grid([[0.0]], label="grid")
