"""A detector, a criterion and batches small enough to train in milliseconds, with every contract of the real ones."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

from smidgen.structures import Classes, DetectorOutput, ImageBatch, Predictions, Preprocessing, Target

CLASSES = Classes(("car", "boat"), (3, 7))


@dataclass(frozen=True, kw_only=True)
class StubConfig:
    num_classes: int = 2
    num_queries: int = 4
    preprocessing: Preprocessing = field(default_factory=lambda: Preprocessing(short_side=16, long_side=16))


class StubDetector(nn.Module):
    """Mean color -> a few queries; in training a random number disturbs the queries, as denoising would."""

    def __init__(self, config: StubConfig, noise: float = 0.0) -> None:
        super().__init__()
        self.name, self.config, self.classes = "stub_nano", config, CLASSES
        self.noise = noise
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.sampling_offsets = nn.Linear(4, 4 * config.num_queries)
        self.norm = nn.LayerNorm(4)
        self.class_head = nn.Linear(4, config.num_classes)
        self.box_head = nn.Linear(4, 4)
        self.checkpointed = False

    def forward(self, images: ImageBatch, targets: Sequence[Target] | None = None) -> DetectorOutput:
        pixels = images.normalized(self.config.preprocessing).pixels
        queries = self.sampling_offsets(self.backbone(pixels).mean((2, 3))).unflatten(1, (-1, 4))
        if targets is not None:
            queries = queries + self.noise * torch.randn_like(queries)
        queries = self.norm(queries)
        return DetectorOutput(Predictions(self.class_head(queries), self.box_head(queries).sigmoid()))

    def enable_activation_checkpointing(self) -> None:
        self.checkpointed = True


class StubCriterion(nn.Module):
    """Queries in order answer for the objects; divided by the mean number of objects per process, as real ones are."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.progress: list[float] = []

    def forward(self, output: DetectorOutput, targets: Sequence[Target], progress: float) -> dict[str, Tensor]:
        self.calls += 1
        self.progress.append(progress)
        normalizer = mean_count(sum(len(target) for target in targets))
        logits, boxes = output.final.logits, output.final.boxes_cxcywh
        wanted = torch.zeros_like(logits)
        distance = boxes.new_zeros(())
        for index, target in enumerate(targets):
            rows = torch.arange(min(len(target), logits.shape[1]))
            wanted[index, rows, target.labels[rows]] = 1
            distance = distance + (boxes[index, rows] - target.boxes_cxcywh[rows]).abs().sum()
        entropy = nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
        return {"class": entropy / normalizer, "l1": 5 * distance / normalizer}


def mean_count(count: int) -> float:
    mean = torch.tensor(float(count))
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(mean)
        mean /= torch.distributed.get_world_size()
    return max(float(mean), 1.0)


@dataclass
class StubBatches:
    """Batches that depend on (epoch, place) only. on_batch: called with the epoch and the batch before it is given."""

    count: int = 6
    batch_size: int = 2
    rank: int = 0
    world_size: int = 1
    epoch: int = 0
    on_batch: Callable[[int, int], None] | None = None

    def __len__(self) -> int:
        return self.count

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def iterate(self, start_step: int = 0) -> Iterator[tuple[ImageBatch, tuple[Target, ...]]]:
        torch.rand(3)  # a DataLoader draws a seed for its workers when it starts
        for batch in range(start_step, self.count):
            if self.on_batch is not None:
                self.on_batch(self.epoch, batch)
            first = batch * self.batch_size * self.world_size + self.rank * self.batch_size
            images, targets = zip(*[sample(self.epoch, first + place) for place in range(self.batch_size)], strict=True)
            yield ImageBatch.collate(images), targets


def sample(epoch: int, position: int) -> tuple[Tensor, Target]:
    """A random image with one to three objects."""
    rng = np.random.default_rng([epoch, position])
    image = torch.from_numpy(rng.integers(0, 256, (3, 16, 16), dtype=np.uint8))
    corner = torch.from_numpy(rng.uniform(0, 8, (int(rng.integers(1, 4)), 2)).astype(np.float32))
    boxes = torch.cat([corner, corner + 4], dim=1)
    return image, Target.of(boxes, torch.from_numpy(rng.integers(0, 2, len(boxes))), (16, 16))


def stub_detector(noise: float = 0.0, num_queries: int = 4) -> StubDetector:
    torch.manual_seed(0)
    return StubDetector(StubConfig(num_queries=num_queries), noise)


def stub_dataset(objects: Sequence[int] = (1, 2, 3)) -> SimpleNamespace:
    records = [SimpleNamespace(labels=np.zeros(count, dtype=np.int64)) for count in objects]
    return SimpleNamespace(classes=CLASSES, records=records)


def signal_at(epoch: int, batch: int, number: signal.Signals = signal.SIGINT) -> Callable[[int, int], None]:
    """Send this process a signal before that batch."""
    return lambda *place: os.kill(os.getpid(), number) if place == (epoch, batch) else None
