"""Salience DETR as its authors trained it on COCO, and the same settings for two sets of small objects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from smidgen.data import Augmentation
from smidgen.recipes.experiment import DataConfig, EvaluationConfig, Experiment, default_experiment
from smidgen.training import TrainingConfig


def coco(system: str = "salience_detr_r50", data: Path = Path("coco")) -> Experiment:
    """COCO in 12 epochs ("1x"), ResNet-50 from ImageNet weights.

    Published: AP 50.0, AP50 67.7, AP75 54.2, small 33.3, medium 54.4, large 64.4 on val2017 (official README; the paper
    has AP 49.2). Swin-L 56.5, ConvNeXt-L 54.2, FocalNet-L 57.3. Not trained here.
    Hardware: 2 images per GPU; the number of GPUs is not published (16 images per batch here, as DINO's). A GPU of 24
    GB holds 2 images.

    smidgen train salience_detr_r50 --recipe salience_detr.coco --data coco --out runs/salience_coco
    torchrun --nproc-per-node 8 -m smidgen train salience_detr_r50 --recipe salience_detr.coco --data coco --out RUN
    """
    return _experiment(system, data)


def ai_tod_v2(system: str = "salience_detr_r50", data: Path = Path("ai_tod_v2")) -> Experiment:
    """AI-TOD-v2 with COCO's settings: the authors publish none for it, and no figure. Judged by the AI-TOD protocol.

    Objects of a few pixels need stride 4: salience_detr_5scale_r50 begins there. Not trained here. Hardware: as coco.

    smidgen train salience_detr_5scale_r50 --recipe salience_detr.ai_tod_v2 --data ai_tod_v2 --out RUN
    """
    return replace(_experiment(system, data), evaluation=EvaluationConfig(protocol="aitod"))


def visdrone(system: str = "salience_detr_r50", data: Path = Path("visdrone")) -> Experiment:
    """VisDrone-DET with COCO's settings: the authors publish none for it, and no figure.

    Judged by the AI-TOD protocol, whose 1500 detections per image fit its crowds. Not trained here. Hardware: as coco.

    smidgen train salience_detr_r50 --recipe salience_detr.visdrone --data visdrone --out RUN
    """
    return replace(_experiment(system, data), evaluation=EvaluationConfig(protocol="aitod"))


def _experiment(system: str, data: Path) -> Experiment:
    return replace(
        default_experiment(system),
        data=DataConfig(path=str(data), augmentation=Augmentation.detr()),
        training=TrainingConfig(
            epochs=12,
            batch_size=16,
            milestones=(10,),
            warmup_steps=1000,
            decay_norms_and_biases=False,
            workers=4,
        ),
        evaluation=EvaluationConfig(protocol="coco"),
        pretrained=True,
    )
