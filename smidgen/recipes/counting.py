"""Does counting at a hundredth of the cost count as well? Both counters, trained alone on scenes of 1 to 1500 objects.

    python -m smidgen.recipes.counting --out RUN [--seeds 0 1] [--steps 500]

No detector is trained: backbone, neck and encoder of the nano size (lsq_detr_nano's with one more level, stride 4, from
which lsq_detr_r50 counts) and a counter, under the loss of the count alone, from random weights. Every variant sees the
same scenes in the same order from the same initial trunk. Scenes hold a log-uniform number of boats of 2 to 5 px;
thresholds lie at the quartiles of the training counts, so that guessing is right for a quarter of the images and on
average 1.25 classes off. A crowded scene may show fewer boats than were drawn; what is there is counted. Writes
counting.json after every variant. Hardware: one CPU thread, about 20 minutes per seed.

Boats, because they show against the water: with all classes and sceneries neither counter had left chance after 640
images (of 96 x 96 pixels with up to 270 objects).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.checkpoints.atomic_write import write_atomically
from smidgen.data.synthetic import SceneConfig, render_scene
from smidgen.evaluation.flop_count import count_flops
from smidgen.losses import count_classes
from smidgen.models import create_model
from smidgen.models.derived_settings import derived_thresholds
from smidgen.structures import ImageBatch
from smidgen.tokens.object_counting import CategoricalCounter, LightCounter, ObjectCount

COUNTERS: Mapping[str, Callable[..., nn.Module]] = {"categorical": CategoricalCounter, "light": LightCounter}

BOATS = SceneConfig(
    size_wh=(224, 224),
    side_px=(2.0, 5.0),
    objects=(1, 1500),
    classes=("boat",),
    sceneries=("harbor", "beach"),
    distractors=0,
    noise=(0.0, 1.0),
    haze=(0.0, 0.05),
    blur_px=(0.2, 0.35),
)

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class CountingExperiment:
    """All fields change results. scenes: what images look like; their number of objects is drawn log-uniformly from
    its range. steps: optimizer steps of `batch_size` images, in bfloat16 where torch's autocast allows it.
    """

    trunk: str = "dino_5scale_nano"
    scenes: SceneConfig = BOATS
    train_scenes: int = 400
    validation_scenes: int = 150
    num_classes: int = 4
    seeds: tuple[int, ...] = (0, 1)
    steps: int = 500
    batch_size: int = 4
    learning_rate: float = 4e-4
    weight_decay: float = 1e-4
    clip_norm: float = 0.1


@dataclass(frozen=True)
class Scenes:
    """Rendered images of one size, and how many objects each holds."""

    pixels: UInt8[Tensor, "S 3 H W"]
    counts: tuple[int, ...]

    def batch(self, index: Int[Tensor, " B"]) -> ImageBatch:
        """These images as a batch without padding."""
        pixels = self.pixels[index]
        height, width = pixels.shape[-2:]
        padding = torch.zeros(len(index), height, width, dtype=torch.bool)
        return ImageBatch(pixels, padding, ((height, width),) * len(index))


class CountingModel(nn.Module):
    """A detector's way from images to memory, and a counter on its finest level. `trunk`: catalogue name."""

    def __init__(self, trunk: str, counting: str, thresholds: Sequence[int]) -> None:
        super().__init__()
        detector = create_model(trunk, num_classes=1)
        self.preprocessing = detector.preprocessing
        self.backbone, self.neck = detector.backbone, detector.neck
        self.flatten, self.encoder = detector.flatten, detector.encoder
        self.counter = COUNTERS[counting](detector.config.transformer.width, thresholds)

    def forward(self, images: ImageBatch) -> ObjectCount:
        """Logits of the classes of counts."""
        pyramid = self.neck(self.backbone(images.normalized(self.preprocessing)))
        memory = self.encoder(self.flatten(pyramid), pyramid)
        count: ObjectCount = self.counter(memory.tokens.unflatten(0), pyramid.padding[0])[0]
        return count


@dataclass(frozen=True, kw_only=True)
class CountingResult:
    """One variant with one seed. accuracy: share of held-out images in the right class. class_error: mean distance in
    classes. parameters, gmacs: of the counter alone on one image; trunk_gmacs: of everything before it. Seconds are
    wall clock of one thread: of training, and per held-out image of trunk and counter.
    """

    counting: str
    seed: int
    accuracy: float
    class_error: float
    cross_entropy: float
    training_loss: float
    parameters: int
    gmacs: float
    trunk_gmacs: float
    training_seconds: float
    seconds_per_image: float


def run_counting(experiment: CountingExperiment, out: Path, say: Say = print) -> list[CountingResult]:
    """Train and judge every variant with every seed; `<out>/counting.json` holds what is done so far."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    training, validation = rendered_splits(experiment, say)
    thresholds = derived_thresholds(np.array(training.counts), experiment.num_classes)
    say(f"thresholds {thresholds}; {len(training.counts)} scenes to learn from, {len(validation.counts)} held out")
    results: list[CountingResult] = []
    for seed in experiment.seeds:
        for counting in COUNTERS:
            results.append(trained_and_judged(experiment, counting, seed, training, validation, thresholds, say))
            say(str(results[-1]))
            _write(out / "counting.json", experiment, thresholds, results)
    return results


def rendered_splits(experiment: CountingExperiment, say: Say = print) -> tuple[Scenes, Scenes]:
    """Scenes to learn from and held-out ones; those of one split do not depend on the size of the other."""
    start = time.perf_counter()
    training = _rendered(experiment.scenes, experiment.train_scenes, seed=1)
    validation = _rendered(experiment.scenes, experiment.validation_scenes, seed=2)
    say(f"rendered {len(training.counts) + len(validation.counts)} scenes in {time.perf_counter() - start:.0f} s")
    return training, validation


def trained_and_judged(
    experiment: CountingExperiment,
    counting: str,
    seed: int,
    training: Scenes,
    validation: Scenes,
    thresholds: Sequence[int],
    say: Say = print,
) -> CountingResult:
    """One variant from random weights; the trunk's follow from the seed alone."""
    torch.manual_seed(seed)
    model = CountingModel(experiment.trunk, counting, thresholds)
    start = time.perf_counter()
    training_loss = _train(model, experiment, training, thresholds, seed, say)
    trained = time.perf_counter()
    judged = _judge(model, validation, thresholds, experiment.batch_size)
    spent = time.perf_counter() - trained
    cost = count_flops(model, (experiment.scenes.size_wh[1], experiment.scenes.size_wh[0]))
    gmacs = cost.by_child["counter"].gmacs()[0]
    return CountingResult(
        counting=counting,
        seed=seed,
        training_loss=training_loss,
        parameters=sum(parameter.numel() for parameter in model.counter.parameters()),
        gmacs=gmacs,
        trunk_gmacs=cost.total.gmacs()[0] - gmacs,
        training_seconds=trained - start,
        seconds_per_image=spent / len(validation.counts),
        **judged,
    )


def _rendered(config: SceneConfig, number: int, seed: int) -> Scenes:
    least, most = config.objects
    counts = np.exp(np.random.default_rng(seed).uniform(np.log(least), np.log(most + 1), number)).astype(int)
    images, found = [], []
    for index, count in enumerate(counts):
        pixels, boxes, _ = render_scene(replace(config, objects=(int(count), int(count)), seed=seed), index)
        images.append(torch.from_numpy(pixels).permute(2, 0, 1))
        found.append(len(boxes))
    return Scenes(torch.stack(images), tuple(found))


def _train(
    model: CountingModel,
    experiment: CountingExperiment,
    scenes: Scenes,
    thresholds: Sequence[int],
    seed: int,
    say: Say,
) -> float:
    """Returns the mean loss of the last tenth of the steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=experiment.learning_rate, weight_decay=experiment.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=experiment.learning_rate, total_steps=experiment.steps, pct_start=0.1
    )
    classes = count_classes(scenes.counts, thresholds)
    losses: list[float] = []
    model.train()
    for index in _batches(len(scenes.counts), experiment, seed):
        images = _mirrored(scenes.batch(index), seed + len(losses))
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images).logits
        loss = F.cross_entropy(logits.float(), classes[index])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), experiment.clip_norm)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if len(losses) % 20 == 0:
            say(f"step {len(losses)} of {experiment.steps}: loss {mean(losses[-20:]):.3f}")
    return mean(losses[-max(1, len(losses) // 10) :])


def _batches(num_scenes: int, experiment: CountingExperiment, seed: int) -> Iterator[Int[Tensor, " B"]]:
    """Random batches, epoch after epoch without repetition, the same for every variant."""
    generator = torch.Generator().manual_seed(seed)
    epochs = -(-experiment.steps * experiment.batch_size // num_scenes)
    order = torch.cat([torch.randperm(num_scenes, generator=generator) for _ in range(epochs)])
    yield from order[: experiment.steps * experiment.batch_size].split(experiment.batch_size)


def _mirrored(images: ImageBatch, seed: int) -> ImageBatch:
    """The batch mirrored along some of its axes: from above a scene has no preferred direction."""
    choices = torch.rand(3, generator=torch.Generator().manual_seed(seed)) < 0.5
    pixels = images.pixels.flip([2 + axis for axis in range(2) if choices[axis]])
    return replace(images, pixels=pixels.transpose(2, 3) if choices[2] else pixels)


@torch.no_grad()
def _judge(model: CountingModel, scenes: Scenes, thresholds: Sequence[int], batch_size: int) -> dict[str, float]:
    model.eval()
    index = torch.arange(len(scenes.counts))
    logits = torch.cat([model(scenes.batch(part)).logits for part in index.split(batch_size)])
    classes = count_classes(scenes.counts, thresholds)
    distance = (logits.argmax(-1) - classes).abs().float()
    return {
        "accuracy": (distance == 0).float().mean().item(),
        "class_error": distance.mean().item(),
        "cross_entropy": F.cross_entropy(logits, classes).item(),
    }


def _write(
    file: Path, experiment: CountingExperiment, thresholds: Sequence[int], results: Sequence[CountingResult]
) -> None:
    document = {
        "experiment": asdict(experiment),
        "thresholds": list(thresholds),
        "results": [asdict(result) for result in results],
        "means": {counting: _means(results, counting) for counting in COUNTERS},
    }
    text = json.dumps(document, indent=2)
    write_atomically(file, lambda partial: partial.write_text(text, encoding="utf-8") and None)


def _means(results: Sequence[CountingResult], counting: str) -> dict[str, Any]:
    """Over seeds, of what the seed changes; empty before the first result."""
    chosen = [asdict(result) for result in results if result.counting == counting]
    names = ("accuracy", "class_error", "cross_entropy", "training_seconds", "seconds_per_image")
    return {name: mean(result[name] for result in chosen) for name in names} if chosen else {}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for counting.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(CountingExperiment.seeds))
    parser.add_argument("--steps", type=int, default=CountingExperiment.steps)
    options = parser.parse_args()
    run_counting(CountingExperiment(seeds=tuple(options.seeds), steps=options.steps), options.out)


if __name__ == "__main__":
    main()
