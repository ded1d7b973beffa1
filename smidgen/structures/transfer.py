"""Tensors are sent to a device without the host waiting for it, wherever that is safe.

To CUDA it is: what lies in ordinary memory is taken over before the call returns, and pinned memory is kept until it
has been read. From a GPU to the host it is not, since values could be read before they are there; nor to MPS, which
reads the host's memory later, when a short-lived tensor is gone (github.com/pytorch/pytorch/issues/189690).
"""

from __future__ import annotations

import torch
from torch import Tensor

WAITED_FOR = {"cpu", "mps"}


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The tensor on the device. It may be given up at once; in pinned memory it must not be written to any more."""
    return tensor.to(device, non_blocking=torch.device(device).type not in WAITED_FOR)
