"""Photometric distortion: brightness, contrast, saturation and hue by random factors, in random order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from smidgen.data.augmentation import Augmentation
from smidgen.data.sample import Sample

_ADJUST = {
    "brightness": F.adjust_brightness,
    "contrast": F.adjust_contrast,
    "saturation": F.adjust_saturation,
    "hue": F.adjust_hue,
}


def jitter_color(sample: Sample, augmentation: Augmentation, rng: np.random.Generator) -> Sample:
    """Apply the adjustments whose range is not zero; boxes stay."""
    image: UInt8[Tensor, "3 H W"] = sample.image
    names = list(_ADJUST)
    for index in rng.permutation(len(names)):
        name = names[index]
        extent = getattr(augmentation, name)
        drawn = extent * (2 * rng.random() - 1)
        if extent > 0:
            image = _ADJUST[name](image, drawn if name == "hue" else max(0.0, 1 + drawn))
    return replace(sample, image=image)
