"""How an image classifier is trained: Swin's recipe, which Strip-MLP follows, as frozen values checked when made.

Ze Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", 2021, appendix A2.1; Guiping
Cao et al., "Strip-MLP: Efficient Token Interaction for Vision MLP", 2023. Unlike their code, which takes timm's
RandAugment (random magnitude around 9, "increasing" operations), operations are torchvision's with the fixed magnitude
9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

_IMAGES_PER_RATE = 512

Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class ClassificationAugmentation:
    """What happens to training images. All fields change results.

    image_size: side in pixels of the square that the network sees. crop_area: least and largest share of the image that
    a crop covers. flip: probability of mirroring. policy: "rand_augment" (2 operations, magnitude 9), "auto_augment"
    (ImageNet's) or "none"; color_jitter: strength, used with "none" only. erasing: probability that a rectangle becomes
    noise. mixup, cutmix: alpha of the beta distributions, 0 = not; where both are wanted, each batch has one of them.
    mean, std: per channel, of pixels scaled to [0, 1].
    """

    image_size: int = 224
    crop_area: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    policy: Literal["rand_augment", "auto_augment", "none"] = "rand_augment"
    color_jitter: float = 0.4
    erasing: float = 0.25
    mixup: float = 0.8
    cutmix: float = 1.0
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        _expect("augmentation.image_size", self.image_size, "at least 8 px", self.image_size >= 8)
        least, most = self.crop_area
        _expect("augmentation.crop_area", self.crop_area, "two increasing shares within (0, 1]", 0 < least <= most <= 1)
        for name in ("flip", "erasing"):
            value = getattr(self, name)
            _expect(f"augmentation.{name}", value, "within [0, 1]", 0 <= value <= 1)
        for name in ("color_jitter", "mixup", "cutmix"):
            value = getattr(self, name)
            _expect(f"augmentation.{name}", value, "a finite number, at least 0", 0 <= value < math.inf)
        _expect("augmentation.std", self.std, "above 0", min(self.std) > 0)


@dataclass(frozen=True, kw_only=True)
class ClassificationTraining:
    """AdamW with a warm-up and a cosine, step by step.

    Changes results:
        epochs: passes over the training images.
        batch_size: images per step, over all processes.
        learning_rate, final_learning_rate, warmup_learning_rate: at the end of the warm-up, of the training, and at the
            first step, for batches of 512 images: they are multiplied by batch_size / 512, as Swin does.
        warmup_epochs: of linear rise; part of the epochs.
        weight_decay: not of biases and of parameters along one dimension only, such as those of norms.
        clip_norm: largest global norm of the gradient; 0 = not clipped.
        label_smoothing: share of the target spread over all classes.
        ema_decay: of an average of the weights, which is then what is judged and kept; 0 = none.
        seed: of everything random.
        precision: "auto" = bf16 on GPUs that have it, fp16 on others, fp32 on the CPU.

    Changes speed only:
        workers: processes that load images; 0 = the training process does.
        log_every: steps between lines of metrics.jsonl.
        checkpoint_every_seconds: at most so many seconds of work are lost in a crash.
    """

    epochs: int = 300
    batch_size: int = 128
    learning_rate: float = 5e-4
    final_learning_rate: float = 5e-6
    warmup_learning_rate: float = 5e-7
    warmup_epochs: float = 20
    weight_decay: float = 0.05
    clip_norm: float = 5.0
    label_smoothing: float = 0.1
    ema_decay: float = 0.0
    seed: int = 42
    precision: Precision = "auto"

    workers: int = 4
    log_every: int = 50
    checkpoint_every_seconds: float = 600.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "log_every"):
            _expect(f"training.{name}", getattr(self, name), "at least 1", getattr(self, name) >= 1)
        for name in ("learning_rate", "checkpoint_every_seconds"):
            value = getattr(self, name)
            _expect(f"training.{name}", value, "a finite number above 0", 0 < value < math.inf)
        for name in ("final_learning_rate", "warmup_learning_rate", "weight_decay", "clip_norm"):
            value = getattr(self, name)
            _expect(f"training.{name}", value, "a finite number, at least 0", 0 <= value < math.inf)
        for name in ("label_smoothing", "ema_decay"):
            _expect(f"training.{name}", getattr(self, name), "within [0, 1)", 0 <= getattr(self, name) < 1)
        warmup = self.warmup_epochs
        _expect("training.warmup_epochs", warmup, f"within [0, {self.epochs}), the epochs", 0 <= warmup < self.epochs)
        _expect("training.workers", self.workers, "at least 0", self.workers >= 0)
        _expect("training.seed", self.seed, "from 0 to 2**63 - 1", 0 <= self.seed < 2**63)


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings:
    """The network. architecture, options: of timm.create_model (Strip-MLP's names included).

    norm: "batch" leaves the architecture's own norms; "group" builds it with group norms of `options.num_groups` (8)
    groups, as the nano detectors have them.
    """

    architecture: str
    options: dict[str, Any] = field(default_factory=dict)
    norm: Literal["batch", "group"] = "batch"


def learning_rate_at(step: int, config: ClassificationTraining, steps_per_epoch: int) -> float:
    """The rate of a step (the first is 0): a line up to the end of the warm-up, then half a cosine over all steps.

    The cosine counts from the first step, not from the end of the warm-up, as in Swin's code; so the rate steps down a
    little where the warm-up ends.
    """
    warmup, total = round(config.warmup_epochs * steps_per_epoch), config.epochs * steps_per_epoch
    top, end = config.learning_rate, config.final_learning_rate
    if step < warmup:
        rate = config.warmup_learning_rate + (top - config.warmup_learning_rate) * step / warmup
    else:
        rate = end + (top - end) * 0.5 * (1 + math.cos(math.pi * min(step / total, 1.0)))
    return rate * config.batch_size / _IMAGES_PER_RATE


def _expect(name: str, value: object, expected: str, holds: bool) -> None:
    if not holds:
        raise ValueError(f"expected {name} to be {expected}, got {value!r}; change --set {name}=...")
