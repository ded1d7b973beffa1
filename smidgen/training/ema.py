"""An exponential moving average of the weights that first follows quickly and then ever more slowly.

W_ema <- d W_ema + (1 - d) W with d = min(decay, (1 + n) / (10 + n)) at update n, so that the random initialization is
forgotten also in short trainings (the warm-up of the decay is TensorFlow's `ExponentialMovingAverage(num_updates)`).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Tensors = tuple[Tensor, ...] | list[Tensor]


def warmed_decay(decay: float, updates: int) -> float:
    """The decay to use after so many updates."""
    return min(decay, (1 + updates) / (10 + updates))


def average_of(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of the model that `update_parameters` moves toward it; buffers are copied, not averaged."""

    def move(averages: Tensors, weights: Tensors, updates: Tensor | int) -> None:
        get_ema_multi_avg_fn(warmed_decay(decay, int(updates)))(averages, weights, updates)

    average = AveragedModel(model, multi_avg_fn=move)
    average.requires_grad_(False)
    return average
