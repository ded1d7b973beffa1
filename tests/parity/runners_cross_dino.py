"""Runners for Cross-DINO's cross coding and its Boost loss; no official code exists, the cases are float64 formulas."""

from __future__ import annotations

import torch
from golden import Case
from torch import Tensor, nn

from smidgen.boxes.counted_queries import at_matched_class
from smidgen.boxes.matched_pairs import predicted_boxes, target_boxes
from smidgen.losses import CategorySizeClassification, FocalClassification
from smidgen.losses.category_size import (
    SMALLEST_SIZE,
    boost_loss,
    box_size,
    modulating_factor,
    object_label,
    predicted_label,
)
from smidgen.structures import FeaturePyramid, Matches, Memory, Predictions, SupervisedSet, Target, Tokens, evidence_of
from smidgen.tokens.cross_coding import (
    CrossCoding,
    CrossGated,
    CrossGates,
    JointGate,
    NormScope,
    ProductGate,
    ResponseNorm,
)

# Ours -> the cases' names.
CODING_NAMES = {
    "mixing.mutual.encoder_gate.": "gate_e.",
    "mixing.mutual.backbone_gate.": "gate_b.",
    "mixing.gate.encoder.": "mlp_e.",
    "mixing.gate.backbone.": "mlp_b.",
    "mixing.gate.mlp.": "mlp.",
    "linear.": "fc.",
    "response_norm.": "grn.",
    "expand.": "fc1.",
    "project.": "fc2.",
}


def run_cross_coding(case: Case) -> None:
    coding = _coding(case)
    memory, pyramid = _encoded(case)
    encoder, backbone = memory.tokens.content, case.inputs["backbone_feature"]
    with torch.no_grad():
        _compare_first_step(case, coding, encoder, backbone)
        found = coding(memory, pyramid)
    gates = evidence_of(found.evidence, CrossGates)
    case.compare("cross_gate", gates.gate.content)
    case.compare("e_cf", found.tokens.content)
    case.assert_all_compared()


def _coding(case: Case) -> CrossCoding:
    config = case.config
    width, hidden = config["dim"], config["hidden"]
    gate = {"joint": JointGate, "product": ProductGate}[config["gate"]](width, hidden)
    per_level = not config.get("grn_axis", "all tokens of all levels").startswith("all tokens of all levels")
    coding = CrossCoding(CrossGated(width, gate, config["encoder_weight"]), norm_per_level=per_level)
    for part in coding.modules():
        if isinstance(part, nn.LayerNorm):
            part.eps = config["layer_norm_eps"]
        if isinstance(part, ResponseNorm):
            part.eps = config["grn_eps"]
    official = {name: _official_name(name) for name in coding.state_dict()}
    assert set(official.values()) == set(case.weights)
    coding.load_state_dict({name: case.weights[official[name]] for name in official})
    return coding


def _official_name(name: str) -> str:
    for ours, theirs in CODING_NAMES.items():
        name = name.replace(ours, theirs)
    return name


def _encoded(case: Case) -> tuple[Memory, FeaturePyramid]:
    """The encoder's tokens, and the backbone's as the pyramid they were flattened from."""
    content, padding = case.inputs["encoder_feature"], case.inputs["padding_mask"]
    shapes = tuple((int(rows), int(columns)) for rows, columns in case.inputs["spatial_shapes"])
    strides = tuple(8 * 2**level for level in range(len(shapes)))
    tokens = Tokens(
        content, torch.zeros_like(content), padding, torch.ones(len(content), len(shapes), 2), shapes, strides
    )
    backbone = tokens.with_content(case.inputs["backbone_feature"])
    maps = tuple(backbone.unflatten(level) for level in range(len(shapes)))
    masks = padding.split([rows * columns for rows, columns in shapes], dim=1)
    masks = tuple(mask.unflatten(1, shape) for mask, shape in zip(masks, shapes, strict=True))
    return Memory.of(tokens), FeaturePyramid(maps, masks, strides, masks[0])


def _compare_first_step(case: Case, coding: CrossCoding, encoder: Tensor, backbone: Tensor) -> None:
    mutual, second = coding.mixing.mutual, coding.mixing.gate
    case.compare("gate1_e", mutual.encoder_gate(encoder))
    case.compare("gate1_b", mutual.backbone_gate(backbone))
    crossed = dict(zip(("e1_cross", "b1_cross"), mutual(encoder, backbone), strict=True))
    for name, tokens in crossed.items():
        case.compare(name, tokens)
    if isinstance(second, ProductGate):
        starts = _encoded(case)[0].tokens.starts if coding.norm_per_level else (0, encoder.shape[1])
        scope = NormScope(case.inputs["padding_mask"], starts)
        case.compare("gate2_e", second.encoder(crossed["e1_cross"], scope).sigmoid())
        case.compare("gate2_b", second.backbone(crossed["b1_cross"], scope).sigmoid())


def run_boost_loss(case: Case) -> None:
    assert case.config["size_floor"] == SMALLEST_SIZE
    assert case.config["detach_pred_size"] and case.config["normaliser"] == "num_boxes"
    for beta in case.config["betas"]:
        _compare_boost(case, beta)
    focal = FocalClassification(alpha=case.config["alpha"], gamma=case.config["gamma"])
    case.compare("focal_reference_loss", focal(_supervised(case), 0.0)["classification"])
    case.assert_all_compared()


def _compare_boost(case: Case, beta: float) -> None:
    """Every entry, and the soft labels at the matched queries and classes (0 elsewhere)."""
    prefix, supervised = f"beta_{beta}", _supervised(case)
    logits = supervised.predictions.logits.detach()
    sides = (box_size(predicted_boxes(supervised)), box_size(target_boxes(supervised)))
    predicted, objects = (at_matched_class(supervised, logits, side) for side in sides)
    positive = at_matched_class(supervised, logits, 1.0)
    case.compare(f"{prefix}_cs_gt_pow_beta", (object_label(objects, beta) * positive).sum(-1))
    case.compare(f"{prefix}_cs_pred_pow_beta", predicted_label(logits, predicted, beta) * positive)
    case.compare(f"{prefix}_elementwise", boost_loss(logits, positive, predicted, objects, _term(case, beta)))
    _compare_totals(case, beta)


def _compare_totals(case: Case, beta: float) -> None:
    """Totals and gradients of the loss term, as the criterion calls it."""
    prefix = f"beta_{beta}"
    loss, gradient = _loss_and_gradient(case, _term(case, beta))
    case.compare(f"{prefix}_loss", loss)
    case.compare(f"{prefix}_grad_logits", gradient)
    _, gradient = _loss_and_gradient(case, _term(case, beta, detach_modulator=True))
    case.compare(f"{prefix}_grad_logits_detached_modulator", gradient)
    loss, _ = _loss_and_gradient(case, _term(case, beta, gt_size_weight=False))
    case.compare(f"{prefix}_loss_without_gt_size_weight", loss)


def _term(case: Case, beta: float, **options: bool) -> CategorySizeClassification:
    settings = {"detach_modulator": case.config["detach_modulator"], **options}
    return CategorySizeClassification(beta=beta, alpha=case.config["alpha"], gamma=case.config["gamma"], **settings)


def _loss_and_gradient(case: Case, term: CategorySizeClassification) -> tuple[Tensor, Tensor]:
    supervised = _supervised(case)
    loss = term(supervised, 0.0)["classification"]
    (gradient,) = torch.autograd.grad(loss, supervised.predictions.logits)
    return loss.detach(), gradient


def _supervised(case: Case) -> SupervisedSet:
    """The case's predictions, objects and pairs, on images of 1 x 1 pixel: sizes in pixels are shares."""
    inputs, images = case.inputs, range(case.config["batch"])
    predictions = Predictions(inputs["logits"].clone().requires_grad_(), inputs["pred_boxes"])
    targets = [_target(inputs[f"gt_boxes_{image}"], inputs[f"gt_labels_{image}"]) for image in images]
    query = [inputs[f"query_idx_{image}"] for image in images]
    matches = Matches(
        torch.cat([torch.full_like(index, image) for image, index in enumerate(query)]),
        torch.cat(query),
        torch.cat([inputs[f"gt_idx_{image}"] for image in images]),
    )
    return SupervisedSet("final", 0, predictions, tuple(targets), matches, inputs["num_boxes"])


def _target(boxes_cxcywh: Tensor, labels: Tensor) -> Target:
    centers, sizes = boxes_cxcywh[:, :2], boxes_cxcywh[:, 2:]
    return Target.of(torch.cat([centers - sizes / 2, centers + sizes / 2], dim=1), labels, (1, 1))


def run_boost_weight(case: Case) -> None:
    """Table IX: the modulating factor of objects that are certain (p = 1), with the table's own exponent."""
    inputs = case.inputs
    case.compare("cs", inputs["object_px"] / inputs["image_px"])
    certain = torch.full_like(inputs["cs_rounded"], torch.inf)
    weight = torch.stack(
        [
            modulating_factor(predicted_label(certain, inputs["cs_rounded"], beta), float(inputs["exponent"]))
            for beta in inputs["betas"].tolist()
        ],
        dim=1,
    )
    case.compare("weight", weight)
    case.compare("weight_vs_printed", weight, expected=case.outputs["weight_printed"])
    rounded = weight.round(decimals=4)
    case.compare("relative_distance", (weight[:-1] - weight[1:]) / weight[1:])
    # Weights of four digits are exact to 5e-5, of which their ratio makes up to 1.5e-4.
    torch.testing.assert_close(
        (rounded[:-1] - rounded[1:]) / rounded[1:], case.outputs["relative_distance_printed"], atol=2e-4, rtol=0
    )
    case.assert_all_compared(besides=frozenset({"weight_printed", "relative_distance_printed"}))
