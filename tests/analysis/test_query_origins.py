from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from observation_cases import observation, token_of

from smidgen.analysis import count_origins, query_level_chart, query_start_picture
from smidgen.analysis.observation import Observation
from smidgen.analysis.query_origins import SIZE_EDGES_PX, SIZE_NAMES, why_no_origins
from smidgen.structures import DetectorOutput

TINY, LARGE = [8.0, 8.0, 12.0, 12.0], [0.0, 0.0, 64.0, 60.0]


def two_answers(boxes: list[list[float]] | None = None) -> Observation:
    """Image 0: a query from stride 8 that says TINY, one from stride 16 that says LARGE, and padding rows."""
    tokens = [token_of(0, 1, 1), token_of(1, 1, 1), token_of(0, 0, 0)]
    return observation(
        boxes=[TINY, LARGE] if boxes is None else boxes,
        query_tokens=tokens,
        query_boxes=[TINY, LARGE, [40.0, 40.0, 44.0, 44.0]],
        query_padding=[False, False, True],
    )


def test_objects_are_counted_where_their_queries_started() -> None:
    counts = count_origins(two_answers())
    by_size = {row["size"]: row for row in counts.to_json()["by_size"]}
    assert by_size["below 8 px"]["matched_by_level"] == [1, 0]
    assert by_size["32 - 96 px"]["matched_by_level"] == [0, 1]
    assert by_size["below 8 px"]["found"] == 1
    assert counts.queries.tolist() == [2, 2], "one query of each level in each image; padding rows are no queries"


def test_objects_without_a_query_stay_unanswered() -> None:
    counts = count_origins(two_answers([TINY, LARGE, [80.0, 50.0, 84.0, 54.0]]))
    assert counts.objects.sum() == 3 and counts.matched.sum() == 2


def test_an_object_on_an_edge_belongs_to_the_larger_size() -> None:
    for number, edge in enumerate(SIZE_EDGES_PX[:3], start=1):
        counts = count_origins(two_answers([[0.0, 0.0, edge, edge]]))
        assert counts.objects.tolist() == [int(size == number) for size in range(len(SIZE_NAMES))]


def test_counts_of_batches_add_up() -> None:
    one = count_origins(two_answers())
    both = one + one
    assert both.images == 4 and both.matched.sum() == 2 * one.matched.sum()
    with pytest.raises(ValueError, match="same levels"):
        _ = one + replace(one, strides=(4, 8))


def test_starts_are_in_pixels_of_the_image_and_say_who_answers() -> None:
    data = query_start_picture(two_answers([TINY]), 0).data
    assert data["starts"] == [[10.0, 10.0, 0, True], [32.0, 30.0, 1, False]]
    assert [row["matched"] for row in data["levels"]] == [1, 0]


def test_headings_speak_of_one_and_of_many() -> None:
    figure = query_start_picture(two_answers([TINY]), 0).figure
    assert figure.get_suptitle() == "Where 2 queries start, by level; 1 of them answers for an object"
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["stride 8 px: 1 query, 1 answers", "stride 16 px: 1 query, 0 answer"]


def test_bars_divide_each_size_completely() -> None:
    figure = query_level_chart(count_origins(two_answers([TINY, LARGE, [80.0, 50.0, 84.0, 54.0]]))).figure
    widths: dict[float, float] = {}
    for bar in figure.axes[0].patches:
        widths[bar.get_y()] = widths.get(bar.get_y(), 0.0) + bar.get_width()  # type: ignore[attr-defined]
    assert sorted(round(width) for width in widths.values()) == [0, 0, 0, 100, 100, 100]


def test_learned_queries_have_no_origin_and_it_is_said() -> None:
    seen = two_answers()
    learned = replace(seen, output=DetectorOutput(seen.output.final))
    assert "learned" in (why_no_origins(learned) or "")
    with pytest.raises(ValueError, match="learned"):
        query_start_picture(learned, 0)


def test_images_without_objects_are_fine() -> None:
    counts = count_origins(two_answers([]))
    assert counts.matched.sum() == 0 and counts.queries.sum() == 4
    assert torch.tensor(query_start_picture(two_answers([]), 0).data["starts"])[:, 3].sum() == 0
