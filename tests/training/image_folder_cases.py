"""A folder of noisy images whose class is their strongest color, and a network that learns it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from smidgen.training.classification_config import ClassificationAugmentation, ClassifierSettings

COLORS = ("red", "green", "blue")
TINY = ClassifierSettings(
    architecture="resnet10t", options={"channels": [8, 8, 16, 16], "stem_width": 8, "drop_path_rate": 0.2}
)
SMALL_IMAGES = ClassificationAugmentation(image_size=32, crop_area=(0.3, 1.0))


def make_image_folder(root: Path, training: int = 6, validation: int = 3) -> Path:
    """`training` and `validation` images of 32 to 48 px for each color."""
    rng = np.random.default_rng(0)
    for split, number in (("train", training), ("val", validation)):
        for channel, color in enumerate(COLORS):
            folder = root / split / color
            folder.mkdir(parents=True)
            for index in range(number):
                pixels = rng.integers(0, 100, (*rng.integers(32, 49, 2), 3)).astype(np.uint8)
                pixels[..., channel] += 150
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return root
