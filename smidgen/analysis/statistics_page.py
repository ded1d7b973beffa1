"""What a dataset holds, on one page: charts, tables, and the advice that follows with the recall that it allows."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from smidgen.analysis.bar_chart import Bars, Row, bar_chart, lying_bars
from smidgen.analysis.dataset_advice.advice import SLACK, Advice, percent
from smidgen.analysis.heat_grid import heat_grid
from smidgen.analysis.report import Report, Section, render_report
from smidgen.data import DetectionDataset
from smidgen.data.image_files import shown
from smidgen.data.statistics.crowding import Crowding
from smidgen.data.statistics.describe import DatasetStatistics
from smidgen.data.statistics.distribution import Histogram, Quantiles
from smidgen.data.statistics.sizes import SizeStatistics
from smidgen.structures import Preprocessing

SHOWN_CLASSES = 40
LONGEST_NAME = 20
QUANTILES = ("smallest", "5 %", "25 %", "median", "75 %", "95 %", "largest", "mean")


def statistics_page(
    dataset: DetectionDataset, found: DatasetStatistics, advice: Sequence[Advice], preprocessing: Preprocessing
) -> str:
    """The page. preprocessing: what `found` and `advice` were computed for."""
    size = f"{preprocessing.short_side} x {preprocessing.long_side}"
    sections = [
        _in_short(advice),
        _images(found),
        _sizes(found, size),
        _classes(found),
        _crowding(found.crowding),
        _placement(found),
        *(_advice(piece) for piece in advice),
    ]
    return render_report(
        Report(
            title=f"{shown(dataset.path.name) or 'Dataset'}: {dataset.split}",
            lead=f"{dataset.layout}. Sizes at the input: for a network that sees {size} px (short x long side).",
            facts=_facts(found),
            sections=sections,
        )
    )


def _facts(found: DatasetStatistics) -> list[tuple[str, str]]:
    counts, sides = found.per_image.quantiles, found.at_input.quantiles
    bins = found.at_input.bins["aitod"]
    small = (bins["verytiny"] + bins["tiny"]) / max(found.objects, 1)
    return [
        (f"{found.images.number:,}", "images"),
        (f"{found.objects:,}", "objects"),
        (f"{len(found.classes.classes)}", "classes"),
        (f"{counts.largest:g}" if counts else "-", "objects in the fullest image"),
        (f"{sides.median:.1f} px" if sides else "-", "median side at the input"),
        (percent(small) if found.objects else "-", "below 16 px at the input"),
    ]


def _in_short(advice: Sequence[Advice]) -> Section:
    if not advice:
        return Section(title="In short", paragraphs=["There are no objects: nothing can be said about them."])
    words = (
        "The recall bound of a choice is the share of objects that can be found at all if it is made, however good the "
        f"detector. Advised is the cheapest choice within {SLACK * 100:g} point of the best, with all else as it is: "
        "when you follow one piece of advice on size, stride or tiles, run this page again with the new --size before "
        "you follow another."
    )
    rows = [[piece.title, piece.choice.name, percent(piece.choice.bound)] for piece in advice]
    return Section(title="In short", paragraphs=[words], tables=[[["question", "advice", "recall at most"], *rows]])


def _command(piece: Advice) -> str:
    """To be copied behind `smidgen train`, one setting in a line."""
    lines = f"# e.g. smidgen train {piece.system}\n" + piece.command.replace(" --set", " \\\n--set")
    return (
        '<div class="chart"><pre style="margin:0;white-space:pre-wrap;overflow-wrap:anywhere;font-size:.8125rem">'
        f"{escape(lines)}</pre></div>"
    )


def _images(found: DatasetStatistics) -> Section:
    images, counts = found.images, found.per_image
    empty = f"{images.without_objects:,} show no object" if images.without_objects else "all show objects"
    words = f"{images.number:,} images; {empty}. {found.ignore_regions:,} regions are to be ignored. "
    sizes = "All have the same size." if images.different_sizes == 1 else f"They have {images.different_sizes:,} sizes."
    return Section(
        title="Images and objects in them",
        paragraphs=[words + sizes],
        charts=[
            _narrow(
                bar_chart(
                    _numbers(counts.histogram),
                    [Bars("images", counts.histogram.counts)],
                    horizontal="objects in an image",
                    label="how many images hold so many objects",
                )
            )
        ],
        tables=[
            _quantiles({"objects in an image": counts.quantiles}),
            [["width x height", "images"], *([f"{w} x {h}", f"{n:,}"] for w, h, n in images.sizes_wh)],
        ],
    )


def _sizes(found: DatasetStatistics, size: str) -> Section:
    words = (
        "The size of an object is the square root of its box's area. What counts for the network is the size at its "
        f"input ({size} px); below about 8 px there is hardly more than a dot to recognize it by."
    )
    charts = [
        bar_chart(
            found.at_input.histogram.labels,
            [
                Bars("at the input", found.at_input.histogram.counts),
                Bars("on disk", found.on_disk.histogram.counts),
            ],
            horizontal="side of an object in px",
            label="how many objects have which size",
        ),
        bar_chart(
            [_ratio(edge) for edge in found.shapes.histogram.edges],
            [Bars("objects", found.shapes.histogram.counts)],
            horizontal="width / height, from the value at the bar on",
            label="how many objects have which shape",
        ),
    ]
    sides = {"side at the input, px": found.at_input.quantiles, "side on disk, px": found.on_disk.quantiles}
    tables = [_quantiles({**sides, "width / height": found.shapes.ratios})]
    tables += [_bins(found.at_input, found.on_disk, protocol) for protocol in found.at_input.bins]
    return Section(title="Sizes and shapes", paragraphs=[words], charts=charts, tables=tables)


def _classes(found: DatasetStatistics) -> Section:
    balance = sorted(found.classes.classes, key=lambda row: -row.objects)
    shown_ones = balance[:SHOWN_CLASSES]
    words = f"The classes are as unequal as if {found.classes.effective:.1f} of {len(balance)} were equally frequent."
    more = f" The {SHOWN_CLASSES} most frequent are shown." if len(balance) > SHOWN_CLASSES else ""
    by_class = found.at_input.by_class
    return Section(
        title="Classes",
        paragraphs=[f"{words}{more} The grid: sizes at the input, full color being the class's most frequent."],
        charts=[
            lying_bars(
                [
                    Row(_short_name(row.name), row.objects / max(balance[0].objects, 1), f"{row.objects:,}")
                    for row in shown_ones
                ],
                label="objects of each class",
            ),
            heat_grid(
                [_relative(by_class[row.name]) for row in shown_ones],
                rows=[_short_name(row.name) for row in shown_ones],
                columns=found.at_input.histogram.labels,
                label="sizes of each class in px of the network's input",
            ),
        ]
        if balance
        else [],
        tables=[
            [
                ["class", "objects", "share", "images", "median px on disk"],
                *(
                    [row.name, f"{row.objects:,}", percent(row.share), f"{row.images:,}", _number(row.median_px)]
                    for row in shown_ones
                ),
            ]
        ],
    )


def _crowding(crowding: Crowding) -> Section:
    words = (
        "How far the nearest other object of the image is (center to center, in sizes of the object: at 1 they about "
        "touch), how many others lie within two sizes, and pairs whose boxes overlap."
    )
    overlaps = [[f"above {row.iou:g}", f"{row.pairs:,}", f"{row.same_class:,}"] for row in crowding.overlaps]
    quantities = {"nearest other, in sizes": crowding.nearest, "others within 2 sizes": crowding.neighbors}
    return Section(
        title="Crowding",
        paragraphs=[f"{words} {percent(crowding.alone)} of the objects are alone in their image."],
        tables=[_quantiles(quantities), [["IoU of two objects", "pairs", "of one class"], *overlaps]],
    )


def _placement(found: DatasetStatistics) -> Section:
    words = (
        "Where the centers of objects lie when all images are stretched to one square: the fuller the color, the "
        "more. A border without objects, or one busy corner, tells how the images were taken, or cut. Below, the share "
        "of an image that its boxes cover; the rest is background."
    )
    density = _narrow(heat_grid(found.placement.density, label="where the centers of objects lie", square=True))
    return Section(
        title="Where objects lie",
        paragraphs=[words],
        charts=[density],
        tables=[_quantiles({"covered share of the image": found.placement.covered})],
    )


def _advice(piece: Advice) -> Section:
    rows = [
        [("→ " if index == piece.chosen else "") + choice.name, percent(choice.bound), *choice.figures]
        for index, choice in enumerate(piece.choices)
    ]
    bounds = [Row(choice.name, choice.bound, percent(choice.bound)) for choice in piece.choices]
    bars = lying_bars(bounds, label=f"{piece.title}: recall bound of each choice", chosen=piece.chosen)
    commands = [_command(piece)] if piece.command else []
    return Section(
        title=piece.title,
        paragraphs=[piece.sentence, piece.rule],
        charts=[bars, *commands] if commands else [_narrow(bars)],
        tables=[[["", "recall at most", *piece.columns], *rows]],
    )


def _narrow(chart: str) -> str:
    """A chart that stands alone, no wider than one of two."""
    return f'<div style="max-width:540px">{chart}</div>'


def _quantiles(quantities: dict[str, Quantiles | None]) -> list[list[str]]:
    rows = [
        [name, *(_number(value) for value in (q.smallest, q.q05, q.q25, q.median, q.q75, q.q95, q.largest, q.mean))]
        for name, q in quantities.items()
        if q is not None
    ]
    return [["", *QUANTILES], *rows]


def _bins(at_input: SizeStatistics, on_disk: SizeStatistics, protocol: str) -> list[list[str]]:
    here, there = at_input.bins[protocol], on_disk.bins[protocol]
    return [
        [f"as in {protocol}", "at the input", "on disk"],
        *([name, f"{here[name]:,}", f"{there[name]:,}"] for name in here),
    ]


def _numbers(histogram: Histogram) -> list[str]:
    """Bins of whole numbers: "3" for [3, 4), "5-9" for [5, 10)."""
    pairs = list(zip(histogram.edges, histogram.edges[1:], strict=False))
    names = [f"{low:g}" if high - low <= 1 else f"{low:g}-{high - 1:g}" for low, high in pairs]
    return [*names, f"{histogram.edges[-1]:g}+"]


def _relative(counts: Sequence[int]) -> list[float]:
    return [count / max(1, *counts) for count in counts]


def _ratio(edge: float) -> str:
    return f"1:{1 / edge:.2g}" if 0 < edge < 1 else f"{edge:g}"


def _short_name(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
