from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from observation_cases import observation

from smidgen.analysis import CountComparison, compare_counts, counting_chart
from smidgen.analysis.count_pictures import ImageCount
from smidgen.tokens.object_counting import ObjectCount

THRESHOLDS = (2, 5)


def comparison(*images: tuple[int, int, int]) -> CountComparison:
    """(objects, counted class, queries) per image."""
    return CountComparison(THRESHOLDS, tuple(ImageCount(number, *image) for number, image in enumerate(images)))


def test_the_class_is_the_number_of_thresholds_that_are_reached() -> None:
    found = comparison((1, 0, 9), (2, 1, 9), (4, 1, 9), (5, 2, 9))
    assert found.accuracy == 1.0
    assert found.class_names == ("0 - 1", "2 - 4", "5 and more")


def test_counts_and_queries_are_read_from_a_batch() -> None:
    evidence = ObjectCount(torch.tensor([[0.0, 3.0, 0.0], [1.0, 0.0, 2.0]]), THRESHOLDS)
    seen = observation(
        boxes=[[0, 0, 4, 4], [8, 8, 12, 12]],
        query_tokens=[0, 1],
        query_padding=[False, True],
        evidence=(evidence,),
    )
    found = compare_counts(seen)
    assert [(image.objects, image.counted_class, image.queries) for image in found.images] == [(2, 1, 1), (0, 2, 1)]
    assert found.confusion.tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert found.short_of_queries == 1


@given(st.lists(st.tuples(st.integers(0, 900), st.integers(0, 2), st.integers(1, 500)), min_size=1, max_size=20))
def test_the_table_holds_every_image_once(images: list[tuple[int, int, int]]) -> None:
    found = comparison(*images)
    assert found.confusion.sum() == len(images)
    assert found.accuracy == pytest.approx(
        sum(image.counted_class == found.true_class(image) for image in found.images) / len(images)
    )


def test_batches_add_up_only_under_the_same_thresholds() -> None:
    assert len((comparison((1, 0, 9)) + comparison((7, 2, 9))).images) == 2
    with pytest.raises(ValueError, match="thresholds"):
        _ = comparison() + CountComparison((3,), ())


def test_the_chart_shows_every_image_at_its_true_count() -> None:
    picture = counting_chart(comparison((1, 0, 9), (40, 1, 30), (0, 2, 9)))
    points = picture.figure.axes[0].collections[-1].get_offsets()
    assert sorted(point[0] for point in points) == [0, 1, 40]
    assert "33%" in picture.figure.get_suptitle()
    assert picture.data["images"][1]["true_class"] == 2


@pytest.mark.parametrize(
    ("images", "heading", "short"),
    [
        ([(4, 1, 3)], "of 1 image:", "1 image has more objects than queries"),
        ([(4, 1, 3), (9, 2, 3)], "of 2 images:", "2 images have more objects than queries"),
        ([(1, 0, 3), (1, 0, 3)], "of 2 images:", "0 images have more objects than queries"),
    ],
)
def test_headings_speak_of_one_and_of_many(images: list[tuple[int, int, int]], heading: str, short: str) -> None:
    figure = counting_chart(comparison(*images)).figure
    assert heading in figure.get_suptitle()
    assert figure.axes[1].get_title() == short


def test_a_model_that_does_not_count_is_refused() -> None:
    with pytest.raises(ValueError, match="counts objects"):
        compare_counts(observation())
