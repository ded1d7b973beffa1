"""Run by test_archive as a program that is killed: detects bright spots, slowly, in an archive."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from bright_spot import BrightSpot

from smidgen.inference.archives import Execution, predict_archive
from smidgen.structures import Detections, ImageBatch


class SlowBrightSpot(BrightSpot):
    """Gives a test time to kill it."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.seconds = seconds

    def detect(self, images: ImageBatch, original_hw: Sequence[tuple[int, int]]) -> list[Detections]:
        time.sleep(self.seconds)
        return super().detect(images, original_hw)


if __name__ == "__main__":
    sources, out, workers = sys.argv[1:]
    predict_archive(SlowBrightSpot(0.05), sources, out, images_per_shard=2, execution=Execution(workers=int(workers)))
