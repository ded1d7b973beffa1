"""LSQ-DETR and DQ-DETR as their released code trains them. All take `system=dq_detr_r50`, too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from smidgen.data import Augmentation
from smidgen.recipes.experiment import DataConfig, EvaluationConfig, Experiment, default_experiment
from smidgen.training import TrainingConfig


def ai_tod_v2(system: str = "lsq_detr_r50", data: Path = Path("ai_tod_v2")) -> Experiment:
    """AI-TOD-v2 in 24 epochs: trained on trainval (11,214 images), judged on test (14,018).

    Published, R50: DQ-DETR AP 30.5, AP50 69.2, AP75 22.7, very tiny 15.2, tiny 30.9, small 36.8, medium 45.5 after 36
    epochs (its README; DINO 25.9 there). LSQ-DETR: no table; an earlier README claims +0.4 AP over its baseline. The
    released runs start from a checkpoint (`pretrain_model.pth`) whose origin is not documented; here the backbone alone
    is pretrained. Not trained here.
    Hardware: 3 GPUs of 1 image each.

    Expects annotations/aitodv2_trainval.json and annotations/aitodv2_test.json as they are distributed, which are the
    splits "trainval" and "test", and the images in images/ or in a folder of the split's name.

    torchrun --nproc-per-node 3 -m smidgen train lsq_detr_r50 --recipe lsq_detr.ai_tod_v2 --data ai_tod_v2 --out RUN
    """
    return replace(
        _experiment(system, data),
        data=DataConfig(
            path=str(data), train_split="trainval", validation_split="test", augmentation=Augmentation.detr()
        ),
        evaluation=EvaluationConfig(protocol="aitod"),
    )


def visdrone(system: str = "lsq_detr_r50", data: Path = Path("visdrone")) -> Experiment:
    """VisDrone-DET train and val, with count thresholds 10, 50, 100 (53 objects per image on average).

    Published: the authors never released their configuration. A user's reproduction of DQ-DETR with these thresholds
    has AP 36.0, AP50 59.1, AP75 36.9, very tiny 10.5, tiny 20.8, small 33.6, medium 48.2 and AR1500 58.8 on val by
    AI-TOD's protocol (its repository, issue 12); with AI-TOD's thresholds AP 30.9. The epochs are AI-TOD's. Not trained
    here.
    Hardware: as for AI-TOD-v2.

    torchrun --nproc-per-node 3 -m smidgen train lsq_detr_r50 --recipe lsq_detr.visdrone --data visdrone --out RUN
    """
    experiment = replace(_experiment(system, data), evaluation=EvaluationConfig(protocol="aitod"))
    if not hasattr(experiment.model, "count_thresholds"):  # a system to compare with, which does not count
        return experiment
    return replace(experiment, model=replace(experiment.model, count_thresholds=(10, 50, 100)))


def coco(system: str = "lsq_detr_r50", data: Path = Path("coco")) -> Experiment:
    """COCO train2017 and val2017 in 24 epochs, its classes by their COCO ids, with all settings as the code has them.

    Published: no figure of LSQ-DETR or DQ-DETR on COCO exists. Thresholds of 10, 100 and 500 objects are AI-TOD's: no
    image of COCO reaches the last two classes; `--set model.count_thresholds=auto` derives others. Not trained here.
    Hardware: as for AI-TOD-v2.

    torchrun --nproc-per-node 3 -m smidgen train lsq_detr_r50 --recipe lsq_detr.coco --data coco --out RUN
    """
    return _experiment(system, data)


def _experiment(system: str, data: Path) -> Experiment:
    return replace(
        default_experiment(system),
        data=DataConfig(path=str(data), augmentation=Augmentation.detr()),
        # The backbone alone learns slower; sampling offsets have the full rate.
        training=TrainingConfig(epochs=24, batch_size=3, milestones=(13, 23), offsets_multiplier=1.0, workers=4),
        evaluation=EvaluationConfig(protocol="coco"),
        pretrained=True,
    )
