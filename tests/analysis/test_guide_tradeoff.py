"""The picture of guided tiling has a mark for each setting and the guide's whole curve."""

from __future__ import annotations

import torch

from smidgen.analysis.guide_tradeoff import GuideTradeoff, GuideTradeoffPoint, guide_picture
from smidgen.inference.guide_recall import GuideScores


def test_picture_and_values() -> None:
    scores = GuideScores(torch.tensor([0.2, 0.9, 0.5]), torch.tensor([0.2, 0.9, 0.5, 0.1, 0.0]))
    points = (
        GuideTradeoffPoint(None, None, 1.0, 1.0, 0.9, 2.0, {"AP50": 0.5}),
        GuideTradeoffPoint(0.99, 0.2, 0.6, 1.0, 0.9, 1.3, {"AP50": 0.5}),
    )
    tradeoff = GuideTradeoff(points, {"scale": 0.5}, {"tile_px": 256}, "coco", 1, 3, 5, 1, scores.choose(1.0))
    picture = guide_picture(tradeoff)
    over_tiles, over_time = picture.figure.axes
    assert [line.get_label() for line in over_tiles.lines] == [
        "every threshold",
        "objects in them",
        "objects in them, all tiles",
    ]
    assert tuple(over_time.lines[0].get_xdata()) == (1.3,)  # type: ignore[arg-type]
    assert picture.data["points"][1]["share"] == 0.6 and picture.data["curve"]["recall"][0] == 1.0
