"""Runners for LSQ-DETR's criterion: scale weights, matching, the complete loss dictionary, the counting loss."""

from __future__ import annotations

import re

import torch
from golden import Case
from torch import Tensor

from smidgen.assignment import HungarianAssignment
from smidgen.boxes import cxcywh_to_xyxy
from smidgen.boxes.matched_pairs import predicted_boxes, target_boxes, target_labels
from smidgen.losses import (
    FocalClassification,
    GIoULoss,
    L1Loss,
    ObjectCountLoss,
    PairWeighting,
    ScaleWeighting,
    SetLoss,
    count_classes,
)
from smidgen.structures import DenoisingPredictions, DetectorOutput, Matches, Predictions, SupervisedSet, Target
from smidgen.tokens.object_counting import ObjectCount

GIOU_EPS = 1e-6
L1_WEIGHT, GIOU_WEIGHT = 5.5, 2.2
OFFICIAL_TERMS = {"classification": "loss_ce", "l1": "loss_bbox", "giou": "loss_giou"}


def run_scale_weights(case: Case) -> None:
    """One image whose objects are matched with the predictions in their order."""
    config, boxes = case.config, case.inputs["pred_boxes"].clone().requires_grad_()
    for name in case.outputs:
        sort, label, epoch, other = _scale_output(name)
        side_px = float(label.removeprefix("_img")) if label else float(config["img_size"])
        decay_epochs = 0 if "nodecay" in name else config["decay_epochs"]
        count = case.inputs["num_boxes_alt" if other else "num_boxes"].item()
        supervised = _pairs(boxes, case.inputs["target_boxes"], count)
        weighting, progress = _weighting(side_px, decay_epochs, config["epochs"], epoch)
        case.compare(name, _scale_figure(sort, supervised, weighting, progress))
    case.assert_all_compared()


def run_matcher_losses(case: Case) -> None:
    config, inputs = case.config, case.inputs
    targets = [_target(inputs[f"target{image}_boxes"], inputs[f"target{image}_labels"]) for image in _images(case)]
    for prefix in sorted({name.split("/")[0] for name in case.outputs if "/" in name}):
        epoch = int(prefix.rsplit("e", 1)[1])
        weighting, progress = _weighting(config["img_size"], config["decay_epochs"], [epoch], epoch)
        criterion = _criterion(weighting if config["box_weighting"] else None)
        output = _output(case, targets, denoised=prefix.startswith("train"))
        sets = criterion.supervised_sets(output, targets)
        logs = criterion(output, targets, progress) | _logs(sets, criterion, progress)
        found = {_official(name): value for name, value in logs.items()}
        expected = [name.removeprefix(f"{prefix}/") for name in case.outputs if name.startswith(f"{prefix}/")]
        absent = torch.zeros(()).double()  # denoising has no losses in evaluation; the official code writes zeros
        found |= {name: absent for name in expected if "_dn" in name and output.denoising is None}
        found["total"] = sum((found[name] * weight for name, weight in config["weight_dict"].items()), start=absent)
        for name in expected:
            case.compare(f"{prefix}/{name}", found[name])
        _compare_matches(case, sets)
    _compare_counting(case, targets)
    case.assert_all_compared()


def _scale_output(name: str) -> tuple[str, str, int, bool]:
    """What is expected ("weights", "loss_bbox", ...), of which other image size, at which epoch, whether over the other
    number of objects.
    """
    found = re.fullmatch(r"(weights|loss_\w+?|grad_pred_boxes)(_img\d+)?(?:_nodecay)?_e(\d+)(_alt)?", name)
    assert found is not None, f"an output of unknown meaning: {name}"
    return found[1], found[2] or "", int(found[3]), found[4] is not None


def _weighting(side_px: float, decay_epochs: int, epochs: list[int], epoch: int) -> tuple[ScaleWeighting, float]:
    """The official weighting and an epoch's progress, in a training long enough for all of them."""
    length = max(*epochs, 2 * decay_epochs, 1)
    decay = decay_epochs / length
    return ScaleWeighting(constant_side_px=side_px, decay=decay, per_process_mean=True), epoch / length


def _pairs(predicted: Tensor, objects: Tensor, count: float) -> SupervisedSet:
    index = torch.arange(len(objects))
    predictions = Predictions(torch.zeros(1, len(objects), 1), predicted[None])
    matches = Matches(torch.zeros_like(index), index, index)
    return SupervisedSet("final", 0, predictions, (_target(objects, torch.zeros_like(index)),), matches, count)


def _scale_figure(sort: str, supervised: SupervisedSet, weighting: ScaleWeighting, progress: float) -> Tensor:
    if sort == "weights":
        return weighting.weights_of(weighting.sides_px(supervised, target_boxes(supervised)), progress)
    if sort in ("loss_xy", "loss_hw"):
        return _distance_log(sort, supervised, weighting, progress)
    l1 = L1Loss(weighting=weighting)(supervised, progress)["l1"]
    giou = GIoULoss(eps=GIOU_EPS, weighting=weighting)(supervised, progress)["giou"]
    if sort == "grad_pred_boxes":
        boxes = supervised.predictions.boxes_cxcywh
        return torch.autograd.grad(L1_WEIGHT * l1 + GIOU_WEIGHT * giou, boxes)[0][0]
    return {"loss_bbox": l1, "loss_giou": giou}[sort].detach()


def _distance_log(sort: str, supervised: SupervisedSet, weighting: PairWeighting | None, progress: float) -> Tensor:
    """The share of centers or sizes in the L1 loss, which the official code only logs."""
    objects = target_boxes(supervised)
    part = slice(0, 2) if sort == "loss_xy" else slice(2, 4)
    distance = (predicted_boxes(supervised) - objects).abs()[:, part].sum(-1)
    weights = 1.0 if weighting is None else weighting(supervised, objects, progress)
    return (distance * weights).sum().detach() / supervised.normalizer


def _criterion(weighting: PairWeighting | None) -> SetLoss:
    """Terms without their weights, which the case has by official name."""
    return SetLoss(
        HungarianAssignment(giou_eps=GIOU_EPS),
        [
            (1.0, FocalClassification()),
            (1.0, L1Loss(weighting=weighting)),
            (1.0, GIoULoss(eps=GIOU_EPS, weighting=weighting)),
        ],
    )


def _output(case: Case, targets: list[Target], *, denoised: bool) -> DetectorOutput:
    layers = [*(f"aux{layer}" for layer in range(case.config["dec_layers"] - 1)), "final"]
    matching = [_predictions(case, name) for name in layers]
    denoising = None
    if denoised:
        groups, slots = case.config["dn_groups"], case.config["dn_pad_size"] // case.config["dn_groups"]
        noised = tuple(_predictions(case, f"dn_{name}") for name in layers)
        denoising = DenoisingPredictions(noised, _denoising_matches(targets, groups, slots), groups)
    return DetectorOutput(
        final=matching[-1],
        auxiliary=tuple(matching[:-1]),
        proposals=_predictions(case, "interm"),  # codespell:ignore interm
        denoising=denoising,
    )


def _predictions(case: Case, name: str) -> Predictions:
    return Predictions(case.inputs[f"{name}_logits"], case.inputs[f"{name}_boxes"])


def _denoising_matches(targets: list[Target], groups: int, slots: int) -> Matches:
    """Positives come first in every group, in the order of the objects."""
    rows = [
        (image, group * slots + index, index)
        for image, target in enumerate(targets)
        for group in range(groups)
        for index in range(len(target))
    ]
    return Matches(*torch.tensor(rows, dtype=torch.long).reshape(-1, 3).unbind(1))


def _logs(sets: dict[str, SupervisedSet], criterion: SetLoss, progress: float) -> dict[str, Tensor]:
    """What the official code writes down beside the losses, computed from what our parts say."""
    logs = {"class_error": _class_error(sets[""])}
    weighting = next(term.weighting for _, term in criterion.terms if isinstance(term, L1Loss))
    for suffix, supervised in sets.items():
        for sort in ("loss_xy", "loss_hw"):
            logs[sort + suffix] = _distance_log(sort, supervised, weighting, progress)
        logs["cardinality_error" + suffix] = _cardinality_error(supervised)
    return logs


def _class_error(supervised: SupervisedSet) -> Tensor:
    """Per cent of the matched queries whose best class is not their object's."""
    matches = supervised.matches
    best = supervised.predictions.logits[matches.image, matches.query].argmax(-1)
    return 100 * (best != target_labels(supervised)).double().mean()


def _cardinality_error(supervised: SupervisedSet) -> Tensor:
    """DETR's: queries whose best class is not the last one, against the number of objects."""
    logits = supervised.predictions.logits
    named = (logits.argmax(-1) != logits.shape[-1] - 1).sum(1)
    objects = torch.tensor([len(target) for target in supervised.targets])
    return (named - objects).abs().double().mean()


def _official(name: str) -> str:
    """The official name of a scalar of ours."""
    name = name.replace("_proposals", "_interm").replace("_denoising", "_dn")
    term = next((term for term in OFFICIAL_TERMS if name.startswith(term)), None)
    return name if term is None else OFFICIAL_TERMS[term] + name.removeprefix(term)


def _compare_matches(case: Case, sets: dict[str, SupervisedSet]) -> None:
    names = {"": "final", "_proposals": "interm"} | {  # codespell:ignore interm
        f"_{layer}": f"aux{layer}" for layer in range(case.config["dec_layers"] - 1)
    }
    for suffix, name in names.items():
        matches = sets[suffix].matches
        for image in _images(case):
            here = matches.image == image
            case.compare(f"match_{name}_img{image}_query", matches.query[here], exact=True)
            case.compare(f"match_{name}_img{image}_target", matches.target[here], exact=True)


def _compare_counting(case: Case, targets: list[Target]) -> None:
    if "count_logits" not in case.inputs:
        return
    count = ObjectCount(case.inputs["count_logits"], tuple(case.config["count_thresholds"]))
    classes = count_classes([len(target) for target in targets], count.thresholds)
    case.compare("ccm_target", classes, exact=True)
    output = DetectorOutput(_predictions(case, "final"), evidence=(count,))
    case.compare("ccm_loss", ObjectCountLoss()(output, targets, 0.0)["object_count"])


def _images(case: Case) -> range:
    return range(case.config["batch"])


class _Float32Target(Target):
    """Boxes in float32 where a loss reads them: gradients of boxes of 2 px show how their corners were rounded."""

    @property
    def boxes_cxcywh(self) -> Tensor:
        return super().boxes_cxcywh.float()


def _target(boxes_cxcywh: Tensor, labels: Tensor) -> Target:
    """Boxes are shares of the image; in float64 the way through corners gives the case's numbers back to the bit."""
    boxes_xyxy = cxcywh_to_xyxy(boxes_cxcywh.double())
    return _Float32Target(boxes_xyxy, labels, (1, 1), (1, 1), 0, boxes_xyxy[:0])
