from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.collections import EllipseCollection
from observation_cases import SHAPES, SIZES, STRIDES, observation, token_of

from smidgen.analysis import refined_tokens_picture, salience_picture
from smidgen.structures import ActiveTokens
from smidgen.tokens.salience_filtering import SalienceMaps

CANVAS_HW = (64, 96)


def maps(*cells: tuple[int, int, int, int]) -> SalienceMaps:
    """Salience 0.5 everywhere but at the (image, level, row, column) cells, which are nearly 1; two encoder layers."""
    logits = tuple(torch.zeros(2, *shape) for shape in SHAPES)
    for image, level, row, column in cells:
        logits[level][image, row, column] = 20.0
    first = ActiveTokens(
        torch.tensor([[token_of(0, 0, 0), token_of(0, 1, 1), token_of(1, 0, 0)]] * 2),
        torch.tensor([[False, False, False], [False, False, True]]),
    )
    last = ActiveTokens(torch.tensor([[token_of(1, 0, 0)]] * 2), torch.tensor([[False], [False]]))
    return SalienceMaps(logits, (first, last), CANVAS_HW)


def test_cells_on_objects_are_told_from_the_others() -> None:
    # The object of image 0 lies in cell (1, 2) of stride 8 and in cell (0, 1) of stride 16.
    seen = observation(boxes=[[17.0, 9.0, 23.0, 15.0]], evidence=(maps((0, 0, 1, 2)),))
    fine, coarse = salience_picture(seen, 0).data["levels"]
    assert fine["mean_on_objects"] == pytest.approx(1.0) and fine["mean_elsewhere"] == pytest.approx(0.5)
    assert coarse["mean_on_objects"] == pytest.approx(0.5)
    assert (fine["stride"], coarse["stride"]) == STRIDES


def test_padding_is_neither_counted_nor_shown() -> None:
    # Image 1 is 32 x 48 px on a canvas of 64 x 96: the bright cell lies outside it.
    seen = observation(evidence=(maps((1, 0, 7, 11)),))
    picture = salience_picture(seen, 1)
    assert picture.data["levels"][0]["largest"] == pytest.approx(0.5)
    assert picture.data["levels"][0]["cells"] == 4 * 6
    assert picture.figure.axes[0].get_xlim() == (0, SIZES[1][1]) and picture.figure.axes[0].get_ylim() == (
        SIZES[1][0],
        0,
    )


def test_an_image_without_objects_has_no_mean_on_them() -> None:
    levels = salience_picture(observation(evidence=(maps(),)), 0).data["levels"]
    assert [level["mean_on_objects"] for level in levels] == [None, None]


def test_refined_tokens_are_counted_by_layer_and_level_without_padding() -> None:
    data = refined_tokens_picture(observation(evidence=(maps(),)), 1).data
    assert data["tokens"] == 4 * 6 + 2 * 3
    assert [layer["by_level"] for layer in data["layers"]] == [[2, 0], [0, 1]]
    assert data["layers"][0]["share"] == pytest.approx(2 / 30)


def test_dots_lie_at_the_centers_of_their_cells_and_grow_with_the_stride() -> None:
    figure = refined_tokens_picture(observation(evidence=(maps(),)), 0).figure
    coarse, fine = [item for item in figure.axes[0].collections if isinstance(item, EllipseCollection)]
    np.testing.assert_allclose(fine.get_offsets(), [[4, 4], [12, 12]], atol=1e-4)
    np.testing.assert_allclose(coarse.get_offsets(), [[8, 8]], atol=1e-4)
    assert coarse.get_widths()[0] == 2 * fine.get_widths()[0]


def test_what_is_missing_is_said() -> None:
    with pytest.raises(ValueError, match="salience"):
        salience_picture(observation(), 0)
