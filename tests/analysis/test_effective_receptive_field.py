from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from smidgen import create_model
from smidgen.analysis.effective_receptive_field import (
    effective_receptive_field,
    mean_receptive_field,
    receptive_field_picture,
    squares,
)
from smidgen.structures import FeaturePyramid, ImageBatch

SIDE = 16


class Convolutions(nn.Module):
    """`depth` 3x3 convolutions with positive weights, then every second cell."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1, bias=False) for _ in range(depth)))
        for parameter in self.parameters():
            nn.init.constant_(parameter, 0.1)

    def forward(self, images: ImageBatch) -> FeaturePyramid:
        return FeaturePyramid.of([self.layers(images.pixels)[:, :, ::2, ::2]], images.padding, [2])


def batch(number: int = 2) -> ImageBatch:
    generator = torch.Generator().manual_seed(0)
    return ImageBatch.collate([torch.rand(3, SIDE, SIDE, generator=generator) for _ in range(number)])


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_field_of_convolutions_is_their_receptive_field(depth: int) -> None:
    field = effective_receptive_field(Convolutions(depth), batch())
    rows, columns = np.nonzero(field.contribution)
    center = SIDE // 2
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (center - depth, center + depth) * 2
    assert field.side_px(0.99999) == 2 * depth + 1 and field.scaled.max() == 1


def test_contributions_are_those_of_one_plain_convolution() -> None:
    field = effective_receptive_field(Convolutions(1), batch(2))
    # 2 images x 3 colors x 3 channels, each with the weight 0.1, at each of the nine pixels
    assert field.contribution[SIDE // 2, SIDE // 2] == pytest.approx(1.8)
    assert field.contribution.sum() == pytest.approx(9 * 1.8)


def test_pixels_that_lower_the_feature_do_not_count() -> None:
    network = Convolutions(1)
    nn.init.constant_(network.layers[0].weight, -0.1)
    field = effective_receptive_field(network, replace(batch(), pixels=-batch().pixels))
    assert not field.contribution.any() and field.side_px(0.5) == 0


def test_fields_of_batches_add_up_and_parameters_get_no_gradient() -> None:
    network = Convolutions(1)
    with torch.no_grad():
        one = effective_receptive_field(network, batch(1))
    both = one + one
    assert both.images == 2 and np.allclose(both.contribution, effective_receptive_field(network, batch()).contribution)
    assert network.layers[0].weight.grad is None
    with pytest.raises(ValueError, match="one level"):
        _ = one + replace(one, stride=4)


def test_images_must_be_normalized_and_unpadded() -> None:
    with pytest.raises(ValueError, match="normalized"):
        effective_receptive_field(Convolutions(1), squares(byte_images(), SIDE))
    with pytest.raises(ValueError, match="padding"):
        effective_receptive_field(Convolutions(1), ImageBatch.collate([torch.rand(3, 8, 8), torch.rand(3, 8, 6)]))


def byte_images() -> ImageBatch:
    return ImageBatch.collate([torch.full((3, 40, 64), 200, dtype=torch.uint8), torch.full((3, 32, 20), 90).byte()])


def test_squares_show_the_images_without_their_padding() -> None:
    made = squares(byte_images(), 24)
    assert made.sizes == ((24, 24),) * 2 and made.pixels.dtype == torch.uint8
    assert (made.pixels[0] == 200).all() and (made.pixels[1] == 90).all()


def test_a_detr_has_a_field_on_every_level() -> None:
    sizes = {"backbone": {"options": {"channels": [16, 16, 16, 16], "stem_width": 32}, "strides": [16, 32]}}
    model = create_model("dino_nano", num_classes=2, num_levels=2, **sizes).eval()
    with torch.no_grad():
        fields = {f"level {level}": mean_receptive_field(model, [byte_images()], 64, level) for level in range(2)}
    assert [field.stride for field in fields.values()] == [16, 32]
    picture = receptive_field_picture(fields)
    assert picture.data["level 1"]["squares"][0]["side_px"] >= 1
    assert "50% within" in picture.figure.axes[0].get_title()
    with pytest.raises(ValueError, match="at least one batch"):
        mean_receptive_field(model, [])
