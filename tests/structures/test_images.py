"""Batches on one canvas, and pixels as networks want them."""

from __future__ import annotations

import pytest
import torch

from smidgen.structures import ImageBatch, Preprocessing


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_normalized_pixels_have_the_statistics_of_their_channel_order(order) -> None:
    mean, std = (0.1, 0.4, 0.7), (0.2, 0.5, 1.0)
    preprocessing = Preprocessing(mean=mean, std=std, channel_order=order)
    image = torch.tensor([51, 102, 255], dtype=torch.uint8)[:, None, None].expand(3, 2, 4)
    batch = ImageBatch.collate([image, image[:, :1, :3]]).normalized(preprocessing)
    shares = (0.2, 0.4, 1.0) if order == "rgb" else (1.0, 0.4, 0.2)
    expected = [(share - center) / spread for share, center, spread in zip(shares, mean, std, strict=True)]
    torch.testing.assert_close(batch.pixels[0, :, 1, 3], torch.tensor(expected))
    assert not batch.pixels[1, :, 1].any() and not batch.pixels[1, :, :, 3].any()
    assert batch.normalized(preprocessing) is batch


def test_the_canvas_is_a_multiple_and_padding_says_where_no_image_is() -> None:
    batch = ImageBatch.collate([torch.ones(3, 5, 9), torch.ones(3, 7, 2)], pad_multiple=4)
    assert batch.pixels.shape == (2, 3, 8, 12) and batch.sizes == ((5, 9), (7, 2))
    assert torch.equal(batch.padding, batch.pixels[:, 0] == 0)
    with pytest.raises(ValueError, match="at least one image"):
        ImageBatch.collate([])
