"""Runners for the detectors that count first, DQ-DETR and LSQ-DETR: counting, gates, selection, model, one step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations

import torch
from golden import Case
from torch import Tensor, nn

from smidgen.boxes import cxcywh_to_xyxy
from smidgen.checkpoints.counting_layouts import DQ_DETR, LSQ_DETR
from smidgen.checkpoints.renaming import Layout, from_official
from smidgen.decoder.readout import TopScoring
from smidgen.features.channel_mapper import ChannelMapper
from smidgen.losses import SetLoss
from smidgen.models.config import BackboneConfig, SetLossConfig, TransformerConfig
from smidgen.models.detr import DETR
from smidgen.models.dq_detr import DQDETRConfig, dq_detr, dq_detr_criterion
from smidgen.models.lsq_detr import LSQDETRConfig, lsq_detr, lsq_detr_criterion
from smidgen.queries.denoising import DenoisingNoise
from smidgen.queries.proposals import ProposalHead, base_boxes
from smidgen.queries.stratified_topk import StratifiedTopK
from smidgen.structures import (
    Classes,
    DetectorOutput,
    FeaturePyramid,
    Memory,
    Predictions,
    QueryBudget,
    Target,
    Tokens,
    evidence_of,
)
from smidgen.tokens.counting_enhancement import CountingEnhancement
from smidgen.tokens.flatten import valid_share
from smidgen.tokens.object_counting import CategoricalCounter, ObjectCount
from smidgen.tokens.staged_encoder import StagedEncoder

# What the official criterion only logs.
LOGGED = ("loss_xy", "loss_hw", "cardinality_error", "class_error")
# Largest deviation that rounding causes in the counter, whose values are about 2, and how many cells it may turn.
ROUNDING, MOST_TURNED = 1e-5, 2
# States and references between the decoder's layers, which no stage returns; the layers' answers depend on all of them.
BETWEEN_LAYERS = frozenset({"hs", "references", "query_ref_unsigmoid"})


def run_counting_enhancement(case: Case) -> None:
    config, content = case.config, case.inputs["memory"]
    num_levels, width = config["num_feature_levels"], config["hidden_dim"]
    thresholds = range(1, config["cls_num"])
    counter = CategoricalCounter(width, thresholds, mask_padding=False)
    stage = CountingEnhancement(counter, width, num_levels, config["channel_gate"], False, norm_per_level=True)
    detector = nn.Module()
    detector.encoder = StagedEncoder(nn.Identity(), [stage])
    weights = {f"transformer.{name}": tensor for name, tensor in case.weights.items()}
    _load(detector, DQ_DETR if config["channel_gate"] else LSQ_DETR, weights)
    shapes = [(int(rows), int(columns)) for rows, columns in case.inputs["spatial_shapes"]]
    memory = Memory.of(_tokens(content, [torch.zeros(len(content), *shape, dtype=torch.bool) for shape in shapes]))
    unread = FeaturePyramid((), (), (), torch.zeros(len(content), 1, 1, dtype=torch.bool))
    with torch.no_grad():
        _compare_counting(case, stage.eval(), memory, unread)
        if any(name.startswith("train_") for name in case.outputs):
            case.compare("train_cgfe_memory", stage.train()(memory, unread).tokens.content)
            norm = stage.spatial_gates.norm
            case.compare("train_bn_running_mean_after", norm.running_mean)
            case.compare("train_bn_running_var_after", norm.running_var)
            case.compare("train_bn_num_batches", norm.num_batches_tracked, exact=True)
    case.assert_all_compared()


def _compare_counting(case: Case, stage: CountingEnhancement, memory: Memory, unread: FeaturePyramid) -> None:
    padding = [mask.flatten(1).unflatten(1, mask.shape[1:]) for mask in _masks(memory.tokens)]
    count, guide = stage.counter(memory.tokens.unflatten(0), padding[0])
    case.compare("counting_logits", count.logits)
    case.compare("ccm_feature", guide)
    guides = [guide]
    for level, halve in enumerate(stage.guides, start=1):
        guides.append(halve(guides[-1], padding[level]))
        case.compare(f"multiscale{level}", guides[-1])
    for level, gate in enumerate(stage.spatial_gates(guides, padding)):
        case.compare(f"spatial_gate{level}", gate)
    enhanced = stage(memory, unread)
    assert enhanced.proposal_tokens is enhanced.tokens
    case.compare("cgfe_memory", enhanced.tokens.content)


def run_stratified_topk(case: Case) -> None:
    config = case.config
    detector = nn.Module()
    detector.proposals = ProposalHead(config["hidden_dim"], config["num_classes"])
    _load(detector, LSQ_DETR, case.weights)
    masks = [case.inputs[f"mask{level}"] for level in range(len(config["shapes"]))]
    memory = Memory.of(_tokens(case.inputs["memory"], masks))
    quotas = {int(budget): tuple(shares) for budget, shares in config["ratios"].items()}
    select = StratifiedTopK(quotas, skip_invalid=False, redistribute=False)
    with torch.no_grad():
        proposals = detector.proposals(memory.proposal_tokens)
    base, valid = base_boxes(memory.proposal_tokens)
    case.compare("enc_logits_maxclass", proposals.logits.amax(dim=-1))
    case.compare("proposal_valid", valid, exact=True)
    case.compare("proposals_finite_sigmoid", torch.where(valid[..., None], base, 1.0))
    for budget in quotas:
        places = select(memory, proposals, QueryBudget(budget))
        assert places.padding is None and places.level is not None and places.content is not None
        per_level = torch.stack([(places.level[0] == level).sum() for level in range(2)])
        case.compare(f"q{budget}_per_level", per_level, exact=True)
        order = _tied_as_expected(case, budget, places.token_index, proposals.logits.amax(dim=-1), valid)
        case.compare(f"q{budget}_index", order, exact=True)
        case.compare(f"q{budget}_ref_sigmoid", places.reference)
        official = torch.where(valid[..., None], base, 1.0).gather(1, order[..., None].expand(-1, -1, 4))
        case.compare(f"q{budget}_init_box", official)
        if f"q{budget}_content" in case.outputs:
            case.compare(f"q{budget}_content", places.content)
    case.assert_all_compared()


def _tied_as_expected(case: Case, budget: int, index: Tensor, score: Tensor, valid: Tensor) -> Tensor:
    """Invalid tokens are all equal, and of neighbors closer than 1e-5 either may come first (the case's note): there
    the expected token stands for ours.
    """
    expected = case.outputs[f"q{budget}_index"]
    difference = (score.gather(1, index) - score.gather(1, expected)).abs()
    both_invalid = ~valid.gather(1, index) & ~valid.gather(1, expected)
    for image in range(len(index)):  # a swap inside the selection, not another selection
        ours, theirs = index[image][valid[image][index[image]]], expected[image][valid[image][expected[image]]]
        assert set(ours.tolist()) == set(theirs.tolist())
        assert len(set(index[image].tolist())) == index.shape[1]
    return torch.where(both_invalid | (difference < 1e-5), expected, index)


def run_full_eval(case: Case) -> None:
    model, _ = _detector(case)
    model.eval()
    with torch.no_grad():
        pyramid = model.neck(_maps(case))
        encoder = model.encoder
        assert isinstance(encoder, StagedEncoder)
        tokens = model.flatten(pyramid)
        if "memory_encoder" in case.outputs:
            case.compare("memory_encoder", encoder.encoder(tokens, pyramid).tokens.content)
        memory = encoder(tokens, pyramid)
        output = model.decode(pyramid)
    for name in case.outputs:
        if name.startswith("src"):
            case.compare(name, pyramid.levels[int(name.removeprefix("src"))])
    case.compare("memory_cgfe", memory.tokens.content)
    case.compare("valid_ratios", memory.tokens.valid_share)
    case.compare("spatial_shapes", torch.tensor(memory.tokens.shapes), exact=True)
    case.compare("counting_logits", _count(output).logits)
    predicted = torch.tensor(case.config["predicted_count_class"])
    assert torch.equal(_count(output).logits.argmax(dim=1), predicted)
    _compare_answers(case, output, memory.proposal_tokens)
    _compare_readout(case, output)
    case.assert_all_compared(besides=BETWEEN_LAYERS)


def _compare_readout(case: Case, output: DetectorOutput) -> None:
    """Read from the expected answers, which ours were compared with: in pixels rounding alone exceeds the tolerance,
    and of two detections of nearly equal scores either may come first.
    """
    final = Predictions(case.outputs["pred_logits"], case.outputs["pred_boxes"])
    assert final.logits.shape == output.final.logits.shape and output.final.padding is None
    readout = TopScoring(final.logits.shape[1], clip=False)
    original_hw = [(int(height), int(width)) for height, width in case.inputs["target_sizes"]]
    detections = readout(replace(output, final=final), original_hw, Classes.numbered(case.config["num_classes"]))
    case.compare("post_scores", torch.stack([found.scores for found in detections]))
    case.compare("post_labels", torch.stack([found.labels for found in detections]), exact=True)
    case.compare("post_boxes", torch.stack([found.boxes_xyxy for found in detections]))


@dataclass(frozen=True)
class TrainStep:
    """One training step of a fresh detector. crossed: (convolution of the counter, cell) whose sign was turned."""

    case: Case
    crossed: tuple[tuple[int, int], ...] = ()
    undecided: list[tuple[int, int]] = field(default_factory=list)

    def run(self) -> tuple[DETR, DetectorOutput, dict[str, Tensor]]:
        """The model with gradients, its output and its losses."""
        model, criterion = _detector(self.case)
        for index, convolution in enumerate(model.encoder.stages[0].counter.convolutions):
            convolution.register_forward_hook(partial(self._turned, index))
        targets, config = _targets(self.case), self.case.config
        denoised = model.train().denoising(targets, _recorded_noise(self.case))
        assert (denoised.groups[0].repeats, denoised.groups[0].span) == (config["groups"], config["dn_pad"])
        output = model.decode(model.neck(_maps(self.case)), denoised)
        # The official decay counts epochs; ours is half of the training.
        losses = criterion(output, targets, config["epoch"] * 0.5 / config["decay_epochs"])
        torch.stack(list(losses.values())).sum().backward()
        return model, output, losses

    def _turned(self, index: int, module: nn.Module, arguments: object, answer: Tensor) -> Tensor:
        within_rounding = (answer.detach().abs() < ROUNDING).flatten().nonzero().flatten().tolist()
        self.undecided.extend((index, cell) for cell in within_rounding)
        turn = torch.ones_like(answer).flatten()
        turn[[cell for convolution, cell in self.crossed if convolution == index]] = -1.0
        return answer * turn.view_as(answer)


def run_train_step(case: Case) -> None:
    model, output, losses = _step_with_expected_gradients(case)
    _compare_losses(case, losses)
    _compare_answers(case, output, model.flatten(model.neck(_maps(case))))
    assert output.denoising is not None
    case.compare("dn_logits", output.denoising.layers[-1].logits)
    case.compare("dn_boxes", output.denoising.layers[-1].boxes_cxcywh)
    _compare_gradients(case, model)
    logged = [name for name in case.outputs if name.startswith(tuple(f"loss/{name}" for name in LOGGED))]
    case.assert_all_compared(besides=BETWEEN_LAYERS | frozenset(logged))


def _step_with_expected_gradients(case: Case) -> tuple[DETR, DetectorOutput, dict[str, Tensor]]:
    """The counter's gradient jumps where the input of a ReLU crosses zero. Few inputs lie so close to it that rounding
    decides on their side; the official step may have had any of them on either, and one of these steps must be it.
    """
    first = TrainStep(case)
    step = first.run()
    for count in range(MOST_TURNED + 1):
        for crossed in combinations(first.undecided, count):
            step = TrainStep(case, crossed).run() if crossed else step
            try:
                _compare_gradients(case, step[0])
            except AssertionError:
                continue
            return step
    return first.run()


def _recorded_noise(case: Case) -> DenoisingNoise:
    return DenoisingNoise.recorded(
        case.inputs["rand_label_flip_uniform"],
        case.inputs["rand_new_labels"],
        case.inputs["rand_box_sign01"],
        case.inputs["rand_box_uniform"],
        case.config["dn_label_noise_ratio"] / 2,
    )


def _compare_answers(case: Case, output: DetectorOutput, tokens: Tokens) -> None:
    assert output.proposals is not None and output.token_index is not None
    case.compare("topk_index", output.token_index, exact=True)
    case.compare("num_select", torch.tensor(output.final.logits.shape[1]), exact=True)
    case.compare("pred_bbox_number", _count(output).logits)
    base = base_boxes(tokens)[0].gather(1, output.token_index[..., None].expand(-1, -1, 4))
    case.compare("init_box_proposal", base)
    case.compare("interm_logits", output.proposals.logits)
    case.compare("interm_boxes", output.proposals.boxes_cxcywh)
    case.compare("pred_logits", output.final.logits)
    case.compare("pred_boxes", output.final.boxes_cxcywh)
    for index, layer in enumerate(output.auxiliary):
        case.compare(f"aux{index}_logits", layer.logits)
        case.compare(f"aux{index}_boxes", layer.boxes_cxcywh)


def _compare_losses(case: Case, losses: dict[str, Tensor]) -> None:
    """Ours are weighted."""
    for ours, value in losses.items():
        name = _official_loss(ours)
        case.compare(f"loss/{name}", value / case.config["weight_dict"].get(name, 1.0))
    case.compare("loss/total", torch.stack(list(losses.values())).sum())


def _official_loss(name: str) -> str:
    if name == "object_count":
        return "ccm"
    term, _, rest = name.partition("_")
    suffix = f"_{rest}" if rest else ""
    suffix = suffix.replace("_denoising", "_dn").replace("_proposals", "_interm")
    return {"classification": "loss_ce", "l1": "loss_bbox", "giou": "loss_giou"}[term] + suffix


def _compare_gradients(case: Case, model: DETR) -> None:
    gradients: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if name.startswith("backbone."):
            continue
        official = LSQ_DETR.official_name(name)
        assert parameter.grad is not None, name
        for alias in [official, *LSQ_DETR.alias_names(official, case.config["dec_layers"])]:
            gradients[alias] = parameter.grad
    norms = [gradients[name].norm() for name in case.config["grad_norm_names"]]
    case.compare("grad_norms", torch.stack(norms))
    for name in case.outputs:
        if name.startswith("grad/"):
            case.compare(name, gradients[name.removeprefix("grad/")])


def _detector(case: Case) -> tuple[DETR, SetLoss]:
    config = case.config
    weights = config.get("weight_dict", {})
    settings = {
        "num_classes": config["num_classes"],
        "backbone": BackboneConfig(name="resnet10t", strides=(4, 8, 16, 32)[-len(config["backbone_channels"]) :]),
        "num_levels": config["num_feature_levels"],
        "transformer": TransformerConfig(
            width=config["hidden_dim"],
            num_heads=config["nheads"],
            num_points=config["enc_n_points"],
            feed_forward=config["dim_feedforward"],
            encoder_layers=config["enc_layers"],
            decoder_layers=config["dec_layers"],
        ),
        "count_thresholds": tuple(config["count_thresholds"]),
        "budgets": tuple(config["dynamic_query_list"]),
        "temperature": float(config["pe_temperature"][0]),
        "denoising_queries": config.get("dn_number", 100),
        "label_noise": config.get("dn_label_noise_ratio", 0.5),
        "box_noise": config.get("dn_box_noise_scale", 1.0),
        "label_rows": len(case.weights["label_enc.weight"]),
        "parity": True,
    }
    stratified = config["selection"] == "stratified"
    kind = LSQDETRConfig if stratified else DQDETRConfig
    detector_config = kind(**settings)
    loss = detector_config.loss
    loss = SetLossConfig(
        classification=weights.get("loss_ce", loss.classification),
        l1=weights.get("loss_bbox", loss.l1),
        giou=weights.get("loss_giou", loss.giou),
    )
    detector_config = replace(detector_config, loss=loss)
    build, criterion = (lsq_detr, lsq_detr_criterion) if stratified else (dq_detr, dq_detr_criterion)
    model = build(detector_config)
    model.neck = ChannelMapper(config["backbone_channels"], config["hidden_dim"], config["num_feature_levels"])
    _load(model, DQ_DETR if config["channel_gate"] else LSQ_DETR, case.weights)
    return model, criterion(detector_config)


def _load(detector: nn.Module, layout: Layout, weights: dict[str, Tensor]) -> None:
    """Load what a golden case holds: everything but the backbone."""

    class WithoutBackbone(nn.Module):
        """The detector's state dict without its backbone."""

        def state_dict(self) -> dict[str, Tensor]:  # type: ignore[override]
            return {name: tensor for name, tensor in detector.state_dict().items() if not name.startswith("backbone.")}

    detector.load_state_dict(from_official(layout, WithoutBackbone(), weights), strict=False)


def _maps(case: Case) -> FeaturePyramid:
    maps = [case.inputs[f"feat{index}"] for index in range(len(case.config["backbone_channels"]))]
    canvas = case.inputs["image_mask"]
    return FeaturePyramid.of(maps, canvas, [round(canvas.shape[-1] / level.shape[-1]) for level in maps])


def _tokens(content: Tensor, masks: list[Tensor]) -> Tokens:
    return Tokens(
        content,
        torch.zeros_like(content),
        torch.cat([mask.flatten(1) for mask in masks], dim=1),
        torch.stack([valid_share(mask) for mask in masks], dim=1),
        tuple((mask.shape[1], mask.shape[2]) for mask in masks),
        tuple(4 * 2**level for level in range(len(masks))),
    )


def _masks(tokens: Tokens) -> list[Tensor]:
    levels = tokens.padding.split([rows * columns for rows, columns in tokens.shapes], dim=1)
    return [level.unflatten(1, shape) for level, shape in zip(levels, tokens.shapes, strict=True)]


def _count(output: DetectorOutput) -> ObjectCount:
    count = evidence_of(output.evidence, ObjectCount)
    assert count is not None
    return count


def _targets(case: Case) -> list[Target]:
    """Boxes of the case are shares of the image; in float64 the way through corners costs no precision."""
    boxes = [case.inputs[f"target{image}_boxes"] for image in range(len(case.config["image_sizes"]))]
    return [
        Target.of(cxcywh_to_xyxy(each.double()), case.inputs[f"target{image}_labels"], (1, 1))
        for image, each in enumerate(boxes)
    ]
