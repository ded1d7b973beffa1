"""Which channels matter is decided from their means, each looking at its neighbors only.

Wang et al., "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks", CVPR 2020. The official
kernel grows with the number of channels; here it is given. Means are those of the cells that show the image.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from smidgen.nn.valid_cells import mean_of_valid


class EfficientChannelAttention(nn.Module):
    """A number in (0, 1) for every channel, from a convolution of `kernel_size` along the channels' means."""

    def __init__(self, kernel_size: int = 5) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, features: Float[Tensor, "B C H W"], padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B C H W"]:
        """The map with its channels weighted."""
        means = mean_of_valid(features, padding)
        gate = self.convolution(means[:, None]).sigmoid().squeeze(1)
        return features * gate[..., None, None]
