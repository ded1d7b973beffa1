"""Run by torchrun in test_processes: trains the stub on the same images, shared by however many processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from stub_detector import StubBatches, StubCriterion, stub_dataset, stub_detector
from torch import nn

from smidgen.training import TrainingConfig, train

BATCH_SIZE = 4


def main(out: Path) -> None:
    world_size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    model = stub_detector()
    model.backbone[1] = nn.GroupNorm(2, 4)  # batch statistics are each process's own
    batches = StubBatches(count=4, batch_size=BATCH_SIZE // world_size, rank=rank, world_size=world_size)
    config = TrainingConfig(
        epochs=2, batch_size=BATCH_SIZE, accumulation=2, learning_rate=1e-2, log_every=1, ema_decay=0.9,
        memory_forecast=False,
    )  # fmt: skip
    evaluate = lambda model: {"AP": float(model.class_head.weight.sum())}  # noqa: E731
    train(model, StubCriterion(), stub_dataset(), config, out, batches=batches, device="cpu", evaluate=evaluate)


if __name__ == "__main__":
    import smidgen.data

    smidgen.data.draw_samples = lambda batch, classes, path: path.write_bytes(b"picture")
    main(Path(sys.argv[1]))
