"""Train an image classifier, Strip-MLP above all, whose features a detector then starts from.

    python -m smidgen.recipes.image_classification strip_mlp_t --data IMAGENET --out RUN [--epochs 300]
    smidgen train cross_dino_strip_t --data DATA --out DETECTOR --init RUN

IMAGENET is a folder with train/<class>/*.jpg and val/<class>/*.jpg; MODEL is any classifier of timm, Strip-MLP's names
(strip_mlp_t_light, strip_mlp_t, strip_mlp_s, strip_mlp_b) included. Recipe: that of Strip-MLP (Cao et al., 2023), which
is Swin's: AdamW, 300 epochs, 20 of warm-up, learning rate 5e-4 per 512 images (scaled with the batch), cosine to 5e-6,
decay 0.05, gradients clipped at 5, RandAugment, erasing, mixup, cutmix, label smoothing. Runs of fewer epochs warm up
over the same share of them.

Published: Strip-MLP T* 81.2 %, T 82.2 %, S 83.3 %, B 83.6 % top-1 on ImageNet-1K, with 8 GPUs. Not repeated here.

Ctrl-C saves and ends with exit code 130; `--out RUN --resume` goes on. Under torchrun the processes share the batch.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from smidgen.recipes.overrides import changed, parse_overrides
from smidgen.training.classification_config import (
    ClassificationAugmentation,
    ClassificationTraining,
    ClassifierSettings,
)

_EPOCHS, _WARMUP_EPOCHS = 300, 20
_USAGE, _FAILED, _INTERRUPTED = 2, 1, 130
_MEMORY_HINT = "use a smaller --batch-size (the learning rate follows it) or --image-size"


@dataclass(frozen=True, kw_only=True)
class ImageClassification:
    """A run as one value. data: folder with train/ and val/. All fields but the speed-only ones change results."""

    model: ClassifierSettings
    data: str
    augmentation: ClassificationAugmentation = field(default_factory=ClassificationAugmentation)
    training: ClassificationTraining = field(default_factory=ClassificationTraining)


def imagenet_folder(
    model: str, data: Path | str, *, epochs: int = _EPOCHS, batch_size: int = 128, image_size: int = 224, seed: int = 42
) -> ImageClassification:
    """The recipe above for a timm name. The warm-up keeps its share of the epochs, 20 of 300."""
    training = ClassificationTraining(
        epochs=epochs, batch_size=batch_size, warmup_epochs=_WARMUP_EPOCHS * epochs / _EPOCHS, seed=seed
    )
    return ImageClassification(
        model=ClassifierSettings(architecture=model),
        data=str(data),
        augmentation=ClassificationAugmentation(image_size=image_size),
        training=training,
    )


def run_image_classification(
    experiment: ImageClassification, out: Path, *, resume: bool = False, device: str | None = None
) -> dict[str, Any]:
    """Train; what --json prints: run, best, metrics, seconds. Errors: those of `train_classifier`."""
    from smidgen.training.classification_loop import train_classifier

    result = train_classifier(
        experiment.model,
        experiment.data,
        out,
        augmentation=experiment.augmentation,
        config=experiment.training,
        resume=resume,
        device=device,
        experiment=asdict(experiment),
    )
    return {
        "run": str(result.run),
        "best": str(result.best),
        "metrics": dict(result.metrics),
        "seconds": result.seconds,
    }


def read_image_classification(file: Path) -> ImageClassification:
    """The experiment.yaml of a run. Errors: ValueError where it is none of these."""
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        start = imagenet_folder(document["model"]["architecture"], document["data"])
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise ValueError(
            f"expected the experiment.yaml of a classifier's run at {file}, could not read it: {error}"
        ) from error
    return changed(start, document)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        result = run_image_classification(
            _experiment(options), options.out, resume=options.resume, device=_device(options.device)
        )
    except Exception as error:
        return _reported(error, options.json)
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(result) if options.json else _words(result), flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m smidgen.recipes.image_classification",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="classifier of timm, or strip_mlp_t and its sizes")
    parser.add_argument("--data", type=Path, help="folder with train/<class>/ and val/<class>/")
    parser.add_argument("--out", type=Path, required=True, help="run folder to make, or to go on with")
    parser.add_argument("--epochs", type=int, help="passes over the training images (300)")
    parser.add_argument("--batch-size", type=int, help="images per step, over all processes (128)")
    parser.add_argument("--image-size", type=int, help="side of the square that the network sees, in pixels (224)")
    parser.add_argument("--seed", type=int, help="of everything random (42)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a field, as in training.workers=8, augmentation.policy=none, model.norm=group (repeatable)",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout at the end")
    return parser


def _experiment(options: argparse.Namespace) -> ImageClassification:
    """The recipe, or the settings of the run to go on with, and what the command line changes."""
    if options.resume:
        start = read_image_classification(options.out / "experiment.yaml")
        if options.model not in (None, start.model.architecture):
            raise ValueError(f"the run in {options.out} trains {start.model.architecture}, not {options.model}")
        start = replace(start, data=str(options.data or start.data))
        start = changed(start, _flags(options, ("epochs", "batch_size", "image_size", "seed")))
    elif options.model is None or options.data is None:
        raise ValueError("expected MODEL and --data for a run that begins; or --out RUN --resume to go on")
    else:
        given = {name: getattr(options, name) for name in ("epochs", "batch_size", "image_size", "seed")}
        given = {name: value for name, value in given.items() if value is not None}
        start = imagenet_folder(options.model, options.data, **given)
    return changed(start, parse_overrides(options.set))


def _flags(options: argparse.Namespace, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Flags that were given as changes of an experiment."""
    changes: dict[str, dict[str, Any]] = {"training": {}, "augmentation": {}}
    for name in names:
        if getattr(options, name) is not None:
            changes["augmentation" if name == "image_size" else "training"][name] = getattr(options, name)
    return changes


def _device(name: str) -> str | None:
    """None = a GPU where there is one."""
    if name.partition(":")[0] not in ("auto", "cpu", "cuda", "mps"):
        raise ValueError(f"expected the device auto, cpu, cuda, cuda:N or mps, got {name!r}; change --device")
    return None if name == "auto" else name


def _words(result: Mapping[str, Any]) -> str:
    figures = ", ".join(f"{name} {value:.4f}" for name, value in result["metrics"].items())
    return f"trained for {result['seconds'] / 60:.1f} minutes: {figures}; the best weights are in {result['best']}"


def _reported(error: Exception, as_json: bool) -> int:
    """Say what went wrong, and the exit code: 130 interrupted and saved, 2 settings or data, 1 everything else."""
    from smidgen.training import Interrupted

    if os.environ.get("SMIDGEN_DEBUG") == "1":
        raise error
    hint = _MEMORY_HINT if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" else ""
    if as_json:
        print(json.dumps({"error": str(error), "hint": hint}))
    else:
        print("\n".join([f"error: {error}", *([f"hint: {hint}"] if hint else [])]), file=sys.stderr)
    if isinstance(error, Interrupted):
        return _INTERRUPTED
    return _USAGE if isinstance(error, ValueError) else _FAILED


if __name__ == "__main__":
    sys.exit(main())
