"""A short name for all the numbers of a model, by which a later start knows whether it is still the same one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn


def weights_fingerprint(model: nn.Module) -> str:
    """SHA-256 of kind, configuration, classes and every parameter and buffer by name, as hexadecimal digits.

    The numbers and not a file: a copy of a checkpoint is the same model, and a model optimized for inference is not. An
    exported model has its numbers in `weight_files` alone.
    """
    told = (type(model).__name__, getattr(model, "dtype", ""), model.config, model.classes)
    digest = hashlib.sha256(repr(told).encode())
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_bytes(tensor))
    files: Iterable[Path] = getattr(model, "weight_files", ())
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    dense = tensor.to_dense() if tensor.is_mkldnn else tensor
    flat = dense.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()
