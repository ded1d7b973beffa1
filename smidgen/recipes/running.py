"""An experiment carried out: data opened, network built, trained, judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from smidgen.checkpoints import load
from smidgen.data import DetectionDataset, TiledDataset, objects_per_image, open_dataset
from smidgen.data.image_files import shown
from smidgen.data.object_sizes import object_sides_px
from smidgen.evaluation import bootstrap_intervals, evaluate, load_protocol
from smidgen.evaluation.evaluation import Evaluation
from smidgen.evaluation.tiled import evaluate_tiled
from smidgen.inference import GuidedTiles
from smidgen.inference.tiling import Tiling
from smidgen.models import create_criterion, create_model, derived_settings, trainable_from_scratch
from smidgen.models.dense_config import PAPERS_THRESHOLD
from smidgen.recipes.cascade_threshold import opened_recall, save_with_choice, with_recall
from smidgen.recipes.experiment import DataConfig, EvaluationConfig, Experiment, as_plain
from smidgen.structures import Classes
from smidgen.training import TrainingResult, train

Say = Callable[[str], None]
Judge = Callable[[nn.Module], Mapping[str, float]]


@dataclass(frozen=True)
class Datasets:
    """The images to learn from, and those to be judged on (None = no evaluation while training)."""

    training: DetectionDataset
    validation: DetectionDataset | None


def run_experiment(
    experiment: Experiment,
    out: Path,
    *,
    init: Path | None = None,
    resume: bool = False,
    device: str | None = None,
    say: Say = print,
) -> TrainingResult:
    """Train into the run folder `out`, which also gets the resolved experiment as experiment.yaml.

    init: a checkpoint to start from; its heads are made anew where classes differ, shared class names kept. say: is
    told what was recognized in the data. A cascade's threshold of "recall:0.99" is chosen on the validation images at
    the end, for the best model. Raises ValueError where settings and data do not fit, Interrupted on a signal
    (saved).
    """
    load_protocol(experiment.evaluation.protocol)  # before hours are spent
    datasets = open_datasets(experiment.data, say)
    tiles = tiled(datasets.training, experiment, say)
    experiment = derived(experiment, datasets.training if tiles is None else tiles.labels, say)
    experiment = resolved(experiment, datasets.training.classes, has_weights=resume or init is not None)
    trained_as, recall = _trained_as(experiment, datasets.validation)
    model = build(trained_as, datasets.training.classes, None if resume else init, say, fresh=not resume)
    judged = _judge(experiment, datasets.validation, device)
    trained = train(
        model,
        create_criterion(model),
        tiles or datasets.training,
        experiment.training,
        out,
        augmentation=experiment.data.augmentation,
        evaluate=judged,
        resume=resume,
        device=device,
        experiment=as_plain(experiment),
    )
    if recall is None or datasets.validation is None or judged is None:
        return trained
    return _with_threshold(trained, datasets.validation, recall, judged, experiment.evaluation.protocol, say)


def open_datasets(config: DataConfig, say: Say = print) -> Datasets:
    """Both splits, with a word on what was recognized and what had to be left out."""
    training = _open(config, config.train_split, say)
    if config.validation_split is None:
        return Datasets(training, None)
    same = config.validation_split == config.train_split
    validation = training if same else _open(config, config.validation_split, say)
    _require_shared_classes(training, validation)
    return Datasets(training, validation)


def tiled(dataset: DetectionDataset, experiment: Experiment, say: Say = print) -> TiledDataset | None:
    """The images as tiles where the experiment asks for them, with a word on how many and how large."""
    config = experiment.data.tiling
    if config is None:
        return None
    tiles = TiledDataset(dataset, config)
    height, width = experiment.model.preprocessing.resized_hw(config.size_px, config.size_px)
    say(
        f"tiles of {config.size_px} px, seen at {width} x {height} px (model.preprocessing): {tiles.num_shown} with "
        f"objects and {tiles.num_empty} without in each epoch, of {len(dataset)} images"
    )
    return tiles


def derived(experiment: Experiment, dataset: DetectionDataset, say: Say = print) -> Experiment:
    """What the training images decide where the model's settings say "auto", said in one line."""
    fields = derived_settings.open_fields(experiment.model)
    if not fields:
        return experiment
    sides_px, counts = object_sides_px(dataset, experiment.model.preprocessing), objects_per_image(dataset).counts
    model = derived_settings.resolved(experiment.model, sides_px, counts)
    found = [f"model.{field} = {getattr(model, field)}" for field in fields]
    say("derived from the data: " + "; ".join([*found, *derived_settings.remarks(experiment.model, counts)]))
    return replace(experiment, model=model)


def resolved(experiment: Experiment, classes: Classes, *, has_weights: bool) -> Experiment:
    """What the data and the weights decide: the number of classes, and norms that train where there are no weights."""
    model = replace(experiment.model, num_classes=len(classes))
    if not (has_weights or experiment.pretrained) and hasattr(model, "backbone"):
        model = trainable_from_scratch(model)
    return replace(experiment, model=model)


def build(
    experiment: Experiment, classes: Classes, init: Path | None = None, say: Say = print, *, fresh: bool = True
) -> nn.Module:
    """The network with these classes, with the weights of `init` as far as they fit. fresh: not about to be resumed.

    Random weights follow from the experiment's seed.
    """
    torch.manual_seed(experiment.training.seed)
    pretrained = experiment.pretrained and fresh and init is None
    model = create_model(experiment.system, classes=classes, config=experiment.model, pretrained=pretrained)
    if init is not None:
        from smidgen.checkpoints import initialize

        say(str(initialize(model, init)))
    return model


def judge(
    model: nn.Module,
    dataset: DetectionDataset,
    config: EvaluationConfig,
    *,
    device: str | None = None,
    tiling: Tiling | None = None,
    guide: GuidedTiles | None = None,
    progress: Callable[[int, int], None] | None = None,
    on_note: Say | None = None,
) -> Evaluation:
    """Evaluate, with bootstrap intervals over images for every average precision where `config` asks for them.

    tiling: look at tiles of the images; guide: at those that it chooses; on_note: hears what tiles take and miss.
    """
    of_tiles = partial(evaluate_tiled, tiling=tiling, choose=guide, on_note=on_note) if tiling is not None else None
    judged = of_tiles or evaluate
    found = judged(
        model, dataset, protocol=config.protocol, batch_size=config.batch_size, device=device, progress=progress
    )
    if not config.bootstrap:
        return found
    protocol = load_protocol(config.protocol)
    metrics = [name for name, figure in protocol.figures.items() if figure.measure == "average_precision"]
    intervals = bootstrap_intervals(
        dataset.coco_ground_truth(), found.predictions, protocol, metrics=metrics, samples=config.bootstrap
    )
    return replace(found, intervals={name: bounds for name, bounds in intervals.items() if found.metrics[name] != -1})


def _trained_as(experiment: Experiment, validation: DetectionDataset | None) -> tuple[Experiment, float | None]:
    """With a number for a threshold that waits for the trained model, and the recall it then has to keep."""
    model, recall = opened_recall(experiment.model)
    if recall is not None and validation is None:
        raise ValueError(
            "expected validation images to choose model.cascade.threshold on, got none; give data.validation_split, or "
            "a number"
        )
    return replace(experiment, model=model), recall


def _with_threshold(
    trained: TrainingResult, validation: DetectionDataset, recall: float, judged: Judge, protocol: str, say: Say
) -> TrainingResult:
    """The best model with the threshold that keeps this recall, judged once more."""
    try:
        best, choice = with_recall(load(trained.best), validation, recall)
    except ValueError as error:  # what was trained for hours is good with the paper's threshold, too
        say(f"model.cascade.threshold stays {PAPERS_THRESHOLD}: {error}")
        return trained
    say(f"model.cascade.threshold = {choice.threshold:g} keeps {choice.recall:.1%} of {choice.objects} small objects")
    metrics = dict(judged(best))
    save_with_choice(best, choice, trained.best, protocol=protocol, metrics=metrics)
    return replace(trained, metrics=metrics)


def _judge(experiment: Experiment, dataset: DetectionDataset | None, device: str | None) -> Judge | None:
    if dataset is None:
        return None
    quick, config = replace(experiment.evaluation, bootstrap=0), experiment.data.tiling
    tiling = None if config is None else Tiling(tile_px=config.size_px, overlap=f"{config.overlap_px}px")
    return lambda model: judge(model, dataset, quick, tiling=tiling).metrics


def _open(config: DataConfig, split: str, say: Say) -> DetectionDataset:
    if not config.path:
        raise ValueError("expected the path of a dataset, got none; give it with --data or data.path")
    dataset = open_dataset(Path(config.path), split, config.layout)
    if config.first_images is not None:
        dataset = dataset.subset(range(min(config.first_images, len(dataset))))
    objects = sum(len(record) for record in dataset.records)
    say(f"{split}: {dataset.layout}: {len(dataset)} images, {objects} objects, {_named(dataset.classes)}")
    for line in dataset.notes.lines():
        say(f"  note: {line}")
    if not objects:
        say(f"  note: no image of {shown(config.path)} {split} has an object")
    return dataset


def _named(classes: Classes) -> str:
    shown_names = ", ".join(classes.names[:8]) + (", ..." if len(classes) > 8 else "")
    return f"{len(classes)} classes ({shown_names})"


def _require_shared_classes(training: DetectionDataset, validation: DetectionDataset) -> None:
    if not set(training.classes.names) & set(validation.classes.names):
        raise ValueError(
            f"expected the splits to share classes, got {list(training.classes.names)} in {training.split} and "
            f"{list(validation.classes.names)} in {validation.split}; change data.train_split or data.validation_split"
        )
