"""Where queries start: over one image by level, and over a data set by the size of the object that each one found.

A two-stage detector starts its queries at the cells of a pyramid. Tiny objects need starts on fine levels; these
pictures show whether a selection gives them any (the question behind stratified and suppressed selection).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from smidgen.analysis.observation import Observation
from smidgen.analysis.panels import (
    TRUTH_COLOR,
    Picture,
    how_many,
    image_panels,
    legend_below,
    level_color,
    outline_boxes,
    true_boxes,
)
from smidgen.boxes import aligned_iou, cxcywh_to_xyxy
from smidgen.structures import DetectorOutput, Matches, Target, Tokens

SIZE_EDGES_PX = (8.0, 16.0, 32.0, 96.0)  # an object of exactly 8 px belongs to 8-16
SIZE_NAMES = ("below 8 px", "8 - 16 px", "16 - 32 px", "32 - 96 px", "96 px and more")
FOUND_IOU = 0.5
UNANSWERED_COLOR = "#B0B0B0"
NEUTRAL_COLOR = "#E0E0E0"
CHART_WIDTH_INCHES = 10.0


@dataclass(frozen=True, slots=True)
class OriginCounts:
    """Queries and objects by the level where the query started; counts of several batches add up.

    strides: pixels per cell, by level. queries: by level. matched: by size of the object and level of the query that
    answers for it. found: of those, by size, the ones whose box overlaps the object with an IoU of 0.5 or more.
    objects: by size, with those for which no query was left. images: how many were counted.
    """

    strides: tuple[int, ...]
    queries: npt.NDArray[np.int64]
    matched: npt.NDArray[np.int64]
    found: npt.NDArray[np.int64]
    objects: npt.NDArray[np.int64]
    images: int

    def __add__(self, other: OriginCounts) -> OriginCounts:
        if self.strides != other.strides:
            raise ValueError(
                f"expected counts of the same levels to add, got strides {self.strides} and {other.strides}"
            )
        return OriginCounts(
            self.strides,
            self.queries + other.queries,
            self.matched + other.matched,
            self.found + other.found,
            self.objects + other.objects,
            self.images + other.images,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values; by_size has one entry per size, sizes in pixels of the network's input."""
        sizes = zip(SIZE_NAMES, self.objects, self.matched, self.found, strict=True)
        return {
            "strides": list(self.strides),
            "images": self.images,
            "queries": self.queries.tolist(),
            "by_size": [
                {"size": name, "objects": int(objects), "matched_by_level": matched.tolist(), "found": int(found)}
                for name, objects, matched, found in sizes
            ],
        }


def why_no_origins(observation: Observation) -> str | None:
    """What is missing to say where queries start, in words for people; None where nothing is."""
    if observation.output.level is None or observation.output.token_index is None:
        return (
            "its queries start at learned places, not at cells of a level (it has no proposals: a one-stage detector)"
        )
    if observation.tokens is None:
        return "its tokens could not be observed: it has no stage named `flatten`"
    if observation.places is None:
        return "its places could not be observed: it has no stage named `selection`"
    return None


def query_start_picture(observation: Observation, index: int) -> Picture:
    """Start points of one image's queries, one panel per level; those that answer for an object have their start box.

    data: per level the number of queries and of matched objects; starts as [x, y, level, matched] in network-input
    pixels. Raises ValueError where queries do not start at tokens.
    """
    tokens, reference = _required(observation)
    existing, level, matched = _one_image(observation, index)
    height, width = observation.images.sizes[index]
    starts = reference[index].detach().float().cpu().numpy() * np.tile([width, height], reference.shape[-1] // 2)
    rows = _levels(level, existing, matched, tokens.strides)
    heading = _start_heading(int(existing.sum()), int(matched.sum()))
    figure, panels = image_panels(observation, index, [_panel_title(row) for row in rows], heading)
    boxes = true_boxes(observation, index)
    for number, axes in enumerate(panels):
        outline_boxes(axes, boxes)
        here = existing & (level == number)
        _draw_starts(axes, starts[here & ~matched], starts[here & matched], level_color(number))
    _start_legend(figure, len(boxes), starts.shape[-1] == 4)
    points = [
        [round(float(x), 1), round(float(y), 1), int(of), bool(answers)]
        for (x, y), of, answers in zip(starts[existing, :2], level[existing], matched[existing], strict=True)
    ]
    return Picture(figure, {"levels": rows, "starts": points})


def count_origins(observation: Observation) -> OriginCounts:
    """Count one batch. Raises ValueError where queries do not start at tokens."""
    tokens, _ = _required(observation)
    output, targets = observation.output, observation.targets
    assert output.level is not None
    matches = observation.matches
    levels = len(tokens.strides)
    sizes = torch.cat([_size_bin(target) for target in targets])
    size = sizes[matches.flat_target(targets)]
    origin = output.level[matches.image, matches.query]
    cells = torch.bincount(size * levels + origin, minlength=len(SIZE_NAMES) * levels)
    return OriginCounts(
        strides=tuple(tokens.strides),
        queries=_counts(output.level[_existing(output)], levels),
        matched=cells.reshape(len(SIZE_NAMES), levels).cpu().numpy(),
        found=_counts(size[_is_found(output, targets, matches)], len(SIZE_NAMES)),
        objects=_counts(sizes, len(SIZE_NAMES)),
        images=len(targets),
    )


def query_level_chart(counts: OriginCounts) -> Picture:
    """Bars that divide all queries, and the objects of each size, by the level where the query started.

    data: `OriginCounts.to_json()`.
    """
    bars = [("all queries", counts.queries, 0)]
    for name, by_level, objects in zip(SIZE_NAMES, counts.matched, counts.objects, strict=True):
        bars.append((f"objects {name}", by_level, int(objects - by_level.sum())))
    figure = Figure(figsize=(CHART_WIDTH_INCHES, 0.55 * len(bars) + 1.9), layout="constrained")
    axes = figure.subplots()
    for row, (_, by_level, unanswered) in enumerate(bars):
        _bar(axes, row, [*by_level.tolist(), unanswered], len(counts.strides))
    axes.set_yticks(range(len(bars)), [name for name, *_ in bars])
    axes.invert_yaxis()
    axes.axhline(0.5, color="#888888", linewidth=0.8)
    axes.set(xlim=(0, 100), xlabel="share in per cent (number in the bar: how many)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(f"On which level the queries of {how_many(counts.images, 'image')} started", fontsize=13)
    _level_legend(figure, counts)
    return Picture(figure, counts.to_json())


def _required(observation: Observation) -> tuple[Tokens, torch.Tensor]:
    """The tokens and start references. Raises ValueError that says what is missing."""
    missing = why_no_origins(observation)
    if missing is not None:
        raise ValueError(f"expected a model whose queries start at tokens, but {missing}")
    assert observation.tokens is not None and observation.places is not None
    return observation.tokens, observation.places.reference


def _existing(output: DetectorOutput) -> torch.Tensor:
    assert output.level is not None
    padding = output.final.padding
    return torch.ones_like(output.level, dtype=torch.bool) if padding is None else ~padding


def _one_image(
    observation: Observation, index: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Per query of one image: whether it exists, its level, and whether it answers for an object."""
    output = observation.output
    assert output.level is not None
    matches = observation.matches
    matched = torch.zeros_like(output.level[index], dtype=torch.bool)
    matched[matches.query[matches.image == index]] = True
    return _existing(output)[index].cpu().numpy(), output.level[index].cpu().numpy(), matched.cpu().numpy()


def _levels(
    level: npt.NDArray[np.int64],
    existing: npt.NDArray[np.bool_],
    matched: npt.NDArray[np.bool_],
    strides: Sequence[int],
) -> list[dict[str, Any]]:
    return [
        {
            "stride": stride,
            "queries": int((existing & (level == number)).sum()),
            "matched": int((matched & (level == number)).sum()),
        }
        for number, stride in enumerate(strides)
    ]


def _start_heading(queries: int, matched: int) -> str:
    answering = f"{matched} of them {'answers' if matched == 1 else 'answer'} for an object"
    return f"Where {how_many(queries, 'query')} {'starts' if queries == 1 else 'start'}, by level; {answering}"


def _panel_title(row: dict[str, Any]) -> str:
    answering = f"{row['matched']} {'answers' if row['matched'] == 1 else 'answer'}"
    return f"stride {row['stride']} px: {how_many(row['queries'], 'query')}, {answering}"


def _draw_starts(axes: Axes, others: npt.NDArray[Any], matched: npt.NDArray[Any], color: str) -> None:
    """Start points, and over them the boxes (where references have a size) and ringed points of those that answer."""
    axes.scatter(others[:, 0], others[:, 1], s=6, color=color, alpha=0.9, linewidths=0)
    if matched.shape[-1] == 4:
        outline_boxes(axes, cxcywh_to_xyxy(torch.as_tensor(matched)).numpy(), color, 0.9)
    axes.scatter(matched[:, 0], matched[:, 1], s=13, color=color, edgecolors="white", linewidths=0.7, zorder=3)


def _start_legend(figure: Figure, objects: int, with_boxes: bool) -> None:
    """Marks in a neutral color: the panels' titles say whose color is which level."""
    answering = "query that answers for an object" + (", with its start box" if with_boxes else "")
    marks = [("dot", NEUTRAL_COLOR, "start of a query"), ("ring", NEUTRAL_COLOR, answering)]
    legend_below(figure, [*marks, ("box", TRUTH_COLOR, f"true boxes ({objects})")])


def _size_bin(target: Target) -> torch.Tensor:
    """Per object, which size it is; size is the square root of the box's area in network-input pixels."""
    sides = (target.boxes_xyxy[:, 2:] - target.boxes_xyxy[:, :2]).clamp(min=0)
    edges = torch.tensor(SIZE_EDGES_PX, device=sides.device)
    return torch.bucketize(sides.prod(dim=-1).sqrt(), edges, right=True)


def _is_found(output: DetectorOutput, targets: Sequence[Target], matches: Matches) -> torch.Tensor:
    objects = torch.cat([target.boxes_cxcywh for target in targets])[matches.flat_target(targets)]
    answers = output.final.boxes_cxcywh[matches.image, matches.query]
    return aligned_iou(cxcywh_to_xyxy(answers), cxcywh_to_xyxy(objects)) >= FOUND_IOU


def _counts(values: torch.Tensor, length: int) -> npt.NDArray[np.int64]:
    counted: npt.NDArray[np.int64] = torch.bincount(values, minlength=length).cpu().numpy()
    return counted


def _bar(axes: Axes, row: int, pieces: Sequence[int], levels: int) -> None:
    total = sum(pieces)
    if not total:
        axes.text(1, row, "none in these images", va="center", fontsize=10, color="#666666")
    start = 0.0
    for number, piece in enumerate(pieces):
        share = 100 * piece / max(total, 1)
        color = level_color(number) if number < levels else UNANSWERED_COLOR
        axes.barh(row, share, left=start, color=color, edgecolor="white", height=0.72)
        if share >= 5:
            axes.text(start + share / 2, row, f"{piece}", ha="center", va="center", fontsize=10)
        start += share


def _level_legend(figure: Figure, counts: OriginCounts) -> None:
    handles = [
        Patch(color=level_color(number), label=f"level of stride {stride} px")
        for number, stride in enumerate(counts.strides)
    ]
    if (counts.objects - counts.matched.sum(axis=1)).any():
        handles.append(Patch(color=UNANSWERED_COLOR, label="no query was left for them"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=10)
