from __future__ import annotations

from typing import Any

import pytest
import torch
from observation_cases import SIZES, observation
from torch import nn

from smidgen import create_model
from smidgen.analysis.class_activation import class_activation, class_activation_picture, why_no_class_activation
from smidgen.structures import Classes, ImageBatch

NANO = {
    "num_queries": 8,
    "num_levels": 2,
    "backbone": {"options": {"channels": [16, 16, 16, 16], "stem_width": 32}, "strides": [16, 32]},
    "transformer": {"width": 32, "num_heads": 2, "feed_forward": 32, "encoder_layers": 1, "decoder_layers": 1},
}


def model(name: str = "dino_nano") -> Any:
    return create_model(name, classes=Classes(("car", "person"), (1, 2)), **NANO).eval()


def images() -> ImageBatch:
    return ImageBatch.collate([torch.randint(0, 255, (3, *size), dtype=torch.uint8) for size in SIZES])


@pytest.mark.parametrize("name", ["dino_nano", "deformable_detr_one_stage_nano"])
def test_maps_are_stretched_over_the_cells_of_the_image(name: str) -> None:
    with torch.inference_mode():
        found = class_activation(model(name), images())
    assert found.strides == (16, 32) and found.names == ("car", "person")
    for maps, inside in zip(found.maps, found.inside, strict=True):
        assert maps.min() >= 0 and maps.max() <= 1
        assert not maps[~inside[:, None].expand_as(maps)].any(), "padding shows nothing"
    peaks = found.maps[0].amax(dim=(2, 3))
    assert ((peaks == 0) | (peaks > 0.9999)).all()


def test_the_map_is_the_head_s_weight_dot_the_feature() -> None:
    detector = model()
    nn.init.zeros_(detector.proposals.class_head.weight)
    with torch.inference_mode():
        silent = class_activation(detector, images())
    assert all(not maps.any() and not largest.any() for maps, largest in zip(silent.maps, silent.largest, strict=True))


def test_maps_do_not_depend_on_batch_mates() -> None:
    detector, batch = model(), images()
    alone = ImageBatch(batch.pixels[:1], batch.padding[:1], batch.sizes[:1])
    with torch.inference_mode():
        together, single = class_activation(detector, batch), class_activation(detector, alone)
    torch.testing.assert_close(together.maps[0][:1], single.maps[0], atol=1e-4, rtol=0)


def test_binary_proposals_show_objects_of_all_classes() -> None:
    with torch.inference_mode():
        found = class_activation(model("deformable_detr_nano"), images())
    assert found.names == ("object",) and found.maps[0].shape[1] == 1


def test_a_panel_per_level_and_class_of_the_image() -> None:
    seen = observation(boxes=[[16.0, 16.0, 48.0, 48.0]])
    with torch.inference_mode():
        found = class_activation(model(), seen.images)
    picture = class_activation_picture(seen, 0, found)
    rows = picture.data["panels"]
    assert [(row["stride"], row["class"]) for row in rows] == [(16, "car"), (32, "car")]
    assert rows[0]["mean_on_objects"] is not None and "car, stride 16 px" in picture.figure.axes[0].get_title()
    assert class_activation_picture(seen, 1, found).data["panels"][0]["mean_on_objects"] is None


def test_what_a_model_lacks_is_said() -> None:
    assert "no stage named" in (why_no_class_activation(nn.Linear(2, 2)) or "")
    with pytest.raises(ValueError, match="stage"):
        class_activation(nn.Linear(2, 2), images())
