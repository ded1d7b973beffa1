"""Which processors compute in bfloat16 faster than in float32, and a word to those who ask for it elsewhere."""

from __future__ import annotations

import logging
import platform

import torch

_LOGGER = logging.getLogger(__name__)


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether products of bfloat16 have instructions of their own: AMX or AVX512-BF16 on x86, BF16 on Arm, tensor
    cores.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return True
    if platform.machine().lower() in ("x86_64", "amd64"):
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return supported


def warn_where_slow(device: torch.device) -> None:
    """Log a warning where bfloat16 only costs digits."""
    if not bfloat16_is_fast(device):
        _LOGGER.warning(
            "bf16 is emulated on this %s, which has neither AMX nor AVX512-BF16 nor their like: expect it to be slower "
            "than fp32, and less exact",
            device.type.upper(),
        )
