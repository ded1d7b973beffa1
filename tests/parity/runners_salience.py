"""Runners for Salience DETR: salience supervision, the filtered encoder, the transformer, the whole detector."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from golden import Case
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock
from torchvision.ops import FrozenBatchNorm2d

from smidgen.boxes import cxcywh_to_xyxy, inverse_sigmoid
from smidgen.checkpoints.renaming import from_official
from smidgen.checkpoints.salience_layout import SALIENCE_DETR
from smidgen.data.geometry import resize_pixels
from smidgen.decoder.readout import TopScoring
from smidgen.features.channel_mapper import ChannelMapper
from smidgen.losses.salience import SalienceLoss
from smidgen.models import create_criterion, create_model
from smidgen.models.detr import DETR
from smidgen.queries.denoising import ContrastiveDenoising, DenoisingNoise
from smidgen.structures import (
    DenoisingPredictions,
    DetectorOutput,
    FeaturePyramid,
    ImageBatch,
    Matches,
    Memory,
    Predictions,
    Preprocessing,
    Queries,
    QueryGroup,
    SupervisedSet,
    Target,
    Tokens,
    evidence_of,
)
from smidgen.tokens.salience_filtering import SalienceFilteredEncoder, SalienceMaps

TERMS = {"loss_class": "classification", "loss_bbox": "l1", "loss_giou": "giou"}
OFFICIAL_RANGES = [(-1, 64), (64, 128), (128, 256), (256, 99999)]
SETS = {"dn": "denoising", "enc": "proposals"}


def run_salience_targets(case: Case) -> None:
    loss, shapes = _salience_loss(case.config["limit_range"], case.config), case.inputs["feature_shapes_hw"].tolist()
    maps, logits = _given_maps(case)
    targets = _normalized_targets(case, "boxes_cxcywh_norm_img", case.inputs["image_sizes_hw"])
    wanted = loss.targets(maps, targets)
    case.compare("targets_flat", wanted)
    case.compare("num_pos", (wanted > 0).sum())
    start = 0
    for level, (rows, columns) in enumerate(shapes):
        by_level = wanted[:, start : start + rows * columns]
        case.compare(f"targets_lvl{level}", by_level.unflatten(1, (rows, columns)))
        start += rows * columns
    value = loss(_output_of(maps), targets, 0.0)["salience"]
    value.backward()
    case.compare("loss_salience_unweighted", value.detach())
    for level, logit in enumerate(logits):
        case.compare(f"grad_logits_lvl{level}", logit.grad)
    case.assert_all_compared()


def run_salience_encoder(case: Case) -> None:
    model, tokens, pyramid = _transformer(case, outside=("proposals.box_head.", "content.", "decoder."))
    seen = _watched(model.encoder.encoder)
    with torch.no_grad():
        memory = model.encoder(tokens, pyramid)
    _compare_encoder(case, memory, tokens, memory.tokens.content)
    case.compare("valid_ratios", tokens.valid_share)
    _compare_valid(case, "query_pos_with_level_embed", tokens.position, tokens)
    refined = _maps(memory).refined
    for layer, active in enumerate(refined):
        theirs = case.outputs[f"selected_index_layer{layer}"]
        for name, rows in seen[layer].items():
            expected = _by_token(theirs, case.outputs[f"layer{layer}_{name}"], tokens)
            actual = _by_token(active.index, rows, tokens)
            case.compare(f"layer{layer}_{name}", actual, expected=expected)
        best = seen[layer]["mc_score"].topk(case.outputs[f"layer{layer}_preattention_topk_index_in_query"].shape[1])
        name = f"layer{layer}_preattention_topk_index_in_query"
        _compare_sets(case, name, active.index.gather(1, best.indices), theirs.gather(1, case.outputs[name]), tokens)
    case.assert_all_compared()


def run_transformer_eval(case: Case) -> None:
    model, tokens, pyramid = _transformer(case)
    before_fusion: list[Tensor] = []
    model.encoder.encoder.register_forward_hook(lambda _, __, memory: before_fusion.append(memory.tokens.content))
    with torch.no_grad():
        memory = model.encoder(tokens, pyramid)
        proposals = model.proposals(memory.proposal_tokens)
        places = model.selection(memory, proposals, model.budget(memory))
        output = model.decode(pyramid)
    _compare_encoder(case, memory, tokens, before_fusion[0])
    for name in case.outputs:
        if name.startswith("neck_out"):
            case.compare(name, memory.tokens.unflatten(int(name.removeprefix("neck_out"))))
    candidates = case.outputs["twostage_topk_index"]
    best = proposals.logits.amax(dim=-1).topk(candidates.shape[1], dim=1).indices
    _compare_sets(case, "twostage_topk_index", best, candidates, tokens)
    case.compare("twostage_selected_index", places.token_index, exact=True)
    _compare_answers(case, output, "decoder_")
    case.assert_all_compared()


def run_cdn_queries(case: Case) -> None:
    config = case.config
    table = case.weights["label_encoder.weight"]
    denoising = ContrastiveDenoising(
        config["num_classes"],
        config["embed_dim"],
        num_queries=config["denoising_nums"],
        label_noise=config["label_noise_prob"],
        box_noise=config["box_noise_scale"],
        eps=1e-3,
        max_objects=None,
        mask_free_slots=False,
    )
    denoising.label_encoder.weight.data.copy_(table)
    targets = _normalized_targets(case, "boxes_cxcywh_img", [(1, 1)] * len(config["gts"]))
    denoised = denoising(targets, _noise(case, ""))
    matching = denoised.content.new_zeros(len(targets), config["num_queries"], config["embed_dim"])
    queries = Queries(matching, matching[..., :4], groups=(QueryGroup("matching", config["num_queries"]),))
    group = denoised.groups[0]
    case.compare("noised_label_query", denoised.content.detach())
    case.compare("noised_box_query_logit", inverse_sigmoid(denoised.reference.double(), 1e-5))
    case.compare("attn_mask", Queries.join([denoised, queries]).attention_mask(), exact=True)
    case.compare("denoising_groups", torch.tensor(group.repeats), exact=True)
    case.compare("group_size", torch.tensor(group.size), exact=True)
    case.assert_all_compared()


def run_losses(case: Case) -> None:
    config = case.config
    model = _detector(config | {"embed_dim": 8, "n_heads": 1, "d_ffn": 8, "enc_layers": 1, "dec_layers": 1})
    criterion = create_criterion(model)
    maps, logits = _given_maps(case)
    targets = _normalized_targets(case, "target_boxes_cxcywh_norm_img", case.inputs["image_sizes_hw"])
    leaves = {name: case.inputs[name].clone().requires_grad_() for name in _ANSWERS} | {
        f"salience_logits_lvl{level}": logit for level, logit in enumerate(logits)
    }
    output = _given_output(leaves, maps, targets, config["denoising_groups"], config["max_gt_num_per_image_times_2"])
    weighted = criterion(output, targets, 0.0)
    for name, official in _official_names(weighted).items():
        case.compare(f"weighted/{official}", weighted[name].detach())
        case.compare(f"unweighted/{official}", weighted[name].detach() / _weight(config, official))
    for image, cost in enumerate(criterion.assignments["final"].costs(output.final, targets)):
        if len(targets[image]):
            case.compare(f"cost_last_layer_img{image}", cost.detach())
    _compare_matches(case, criterion.supervised_sets(output, targets))
    total = sum(weighted.values())
    total.backward()
    case.compare("total", total.detach())
    for name in case.outputs:
        if name.startswith("grad_total/"):
            case.compare(name, leaves[name.removeprefix("grad_total/")].grad)
    case.assert_all_compared()


def run_detector_eval(case: Case) -> None:
    config = case.config
    model = _whole_detector(case)
    model.preprocessing = Preprocessing(short_side=config["min_size"], long_side=config["max_size"], pad_multiple=32)
    model.readout = TopScoring(config["select_box_nums"], clip=False)
    count = len(config["original_sizes_hw"])
    raw = [case.inputs[f"image{index}_uint8"] for index in range(count)]
    sizes = [model.preprocessing.resized_hw(image.shape[1], image.shape[2]) for image in raw]
    images = ImageBatch.collate(
        [resize_pixels(image, size) for image, size in zip(raw, sizes, strict=True)], pad_multiple=32
    )
    case.compare("resized_sizes_hw", torch.tensor(sizes), exact=True)
    with torch.no_grad():
        case.compare("padded_batch", images.normalized(model.preprocessing).pixels)
        # Resizing differs by a rounding here and there; what follows it is compared from the recorded batch on.
        given = ImageBatch(case.outputs["padded_batch"], images.padding, images.sizes)
        pyramid = model.neck(model.backbone(given))
        output = model.decode(pyramid)
    for level, (features, mask) in enumerate(zip(pyramid.levels, pyramid.padding, strict=True)):
        case.compare(f"mapped_feat{level}", features)
        case.compare(f"mask{level}", mask, exact=True)
        case.compare(f"salience_logits_lvl{level}", _maps_of(output).logits[level][:, None])
    _compare_answers(case, output, "all_decoder_")
    detections = model.readout(output, [tuple(size) for size in config["original_sizes_hw"]], model.classes)
    for index, found in enumerate(detections):
        case.compare(f"det_img{index}_scores", found.scores)
        case.compare(f"det_img{index}_labels", found.labels, exact=True)
        case.compare(f"det_img{index}_boxes", found.boxes_xyxy)
    case.assert_all_compared()


def run_detector_train_losses(case: Case) -> None:
    model = _whole_detector(case).train()
    count = len(case.config["sizes_hw"])
    images = ImageBatch.collate([case.inputs[f"image{index}_normalised"] for index in range(count)], pad_multiple=32)
    targets = [
        Target.of(case.inputs[f"boxes_xyxy_abs_img{index}"], case.inputs[f"labels_img{index}"], tuple(size))
        for index, size in enumerate(case.config["sizes_hw"])
    ]
    model.preprocessing = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    pyramid = model.neck(model.backbone(images))
    output = model.decode(pyramid, model.denoising(targets, _noise(case, "noise_")))
    weighted = create_criterion(model)(output, targets, 0.0)
    total = sum(weighted.values())
    total.backward()
    for name, official in _official_names(weighted).items():
        case.compare(f"weighted/{official}", weighted[name].detach())
    case.compare("total", total.detach())
    gradients = {
        SALIENCE_DETR.official_name(name): parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    for name in case.outputs:
        if name.startswith("grad/"):
            case.compare(name, gradients[name.removeprefix("grad/")])
    norms = torch.stack([gradient.norm() for gradient in gradients.values()])
    case.compare("grad_global_norm", norms.norm())
    case.assert_all_compared()


_ANSWERS = ("decoder_logits", "decoder_boxes", "dn_logits", "dn_boxes", "enc_logits", "enc_boxes")


def _detector(config: dict[str, Any]) -> DETR:
    """Our model of the official configuration, in parity mode."""
    num_levels = config.get("n_levels", 4)
    ranges = config.get("salience_limit_range", OFFICIAL_RANGES[:num_levels])
    model = create_model(
        "salience_detr_nano",
        num_classes=config["num_classes"],
        num_queries=config["num_queries"],
        num_levels=num_levels,
        level_ratios=config.get("level_filter_ratio", [1.0] * num_levels),
        layer_ratios=config.get("layer_filter_ratio", [1.0]),
        densely_attended=config.get("topk_sa", 300),
        background_rows=config.get("max_num_embedding", 200),
        fusion=config.get("with_neck", False),
        denoising_queries=config.get("denoising_nums", 100),
        transformer={
            "width": config["embed_dim"],
            "num_heads": config["n_heads"],
            "num_points": config.get("n_points", 4),
            "feed_forward": config["d_ffn"],
            "encoder_layers": config["enc_layers"],
            "decoder_layers": config["dec_layers"],
        },
        level_limits_px=[high for _, high in ranges],
        parity=True,
    )
    assert isinstance(model, DETR)
    return model.eval()


def _transformer(case: Case, outside: tuple[str, ...] = ()) -> tuple[DETR, Tokens, FeaturePyramid]:
    """The model with the case's transformer weights, its tokens and the pyramid they come from."""
    model = _detector(case.config)
    weights = {f"transformer.{name}": tensor for name, tensor in case.weights.items()}
    _load(model, weights, outside=("backbone.", "neck.", "denoising.", *outside))
    count = case.config["n_levels"]
    height, width = case.config["padded_hw"]
    canvas = torch.ones(len(case.config["image_sizes_hw"]), height, width, dtype=torch.bool)
    for image, (rows, columns) in enumerate(case.config["image_sizes_hw"]):
        canvas[image, :rows, :columns] = False
    levels = [case.inputs[f"feat{index}"] for index in range(count)]
    strides = [round(width / level.shape[-1]) for level in levels]
    pyramid = FeaturePyramid.of(levels, canvas, strides)
    for index, mask in enumerate(pyramid.padding):
        assert torch.equal(mask, case.inputs[f"mask{index}"])
    return model, model.flatten(pyramid), pyramid


def _whole_detector(case: Case) -> DETR:
    model = _detector(case.config)
    widths = case.config["backbone_widths"]
    model.backbone = SmallResNet(widths, case.config["backbone_blocks"])
    model.neck = ChannelMapper(widths[1:], case.config["embed_dim"], case.config["n_levels"], bias=False)
    _load(model.eval(), case.weights, outside=())
    return model


class SmallResNet(nn.Module):
    """The official ResNet with basic blocks and frozen batch norms, read at strides 8, 16 and 32."""

    def __init__(self, widths: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        stem, before = widths[0], widths[0]
        layers = {
            "conv1": nn.Conv2d(3, stem, 7, 2, 3, bias=False),
            "bn1": FrozenBatchNorm2d(stem),
        }
        for index, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            stride = 1 if index == 0 else 2
            layers[f"layer{index + 1}"] = nn.Sequential(
                *(
                    _block(before if number == 0 else width, width, stride if number == 0 else 1)
                    for number in range(count)
                )
            )
            before = width
        self.body = nn.ModuleDict(layers)

    def forward(self, images: ImageBatch) -> FeaturePyramid:
        body = self.body
        features = nn.functional.max_pool2d(body["bn1"](body["conv1"](images.pixels)).relu(), 3, 2, 1)
        maps = []
        for index in range(1, 5):
            features = body[f"layer{index}"](features)
            maps.append(features)
        return FeaturePyramid.of(maps[1:], images.padding, (8, 16, 32))


def _block(before: int, width: int, stride: int) -> BasicBlock:
    shortcut = None
    if stride > 1 or before != width:
        shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), FrozenBatchNorm2d(width))
    return BasicBlock(before, width, stride, shortcut, norm_layer=FrozenBatchNorm2d)


def _load(model: DETR, weights: dict[str, Tensor], outside: tuple[str, ...]) -> None:
    class Part(nn.Module):
        """The model's state dict without what the golden case leaves out."""

        def state_dict(self) -> dict[str, Tensor]:  # type: ignore[override]
            return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(outside)}

    model.load_state_dict(from_official(SALIENCE_DETR, Part(), weights), strict=False)


def _watched(encoder: SalienceFilteredEncoder) -> list[dict[str, Tensor]]:
    """What each layer makes of its tokens, and the score by which the densely attending ones are chosen."""
    seen: list[dict[str, Tensor]] = [{} for _ in encoder.layers]
    for index, (layer, best) in enumerate(zip(encoder.layers, encoder.among_best, strict=True)):
        best.register_forward_pre_hook(lambda _, given, found=seen[index]: found.update(mc_score=given[2]))
        layer.register_forward_hook(lambda _, __, rows, found=seen[index]: found.update(query_out=rows))
    return seen


def _compare_encoder(case: Case, memory: Memory, tokens: Tokens, content: Tensor) -> None:
    maps = _maps(memory)
    case.compare("valid_token_mask_flat", ~tokens.padding, exact=True)
    for level, logits in enumerate(maps.logits):
        case.compare(f"salience_logits_lvl{level}", logits[:, None])
    flat = torch.cat([logits.flatten(1) for logits in maps.logits], dim=1)
    case.compare("foreground_score_flat", flat.masked_fill(tokens.padding, flat.amin()))
    case.compare("focus_token_nums", (~maps.refined[0].padding).sum(dim=1), exact=True)
    for layer, active in enumerate(maps.refined):
        name = f"selected_index_layer{layer}"
        _compare_sets(case, name, active.index, case.outputs[name], tokens)
    _compare_valid(case, "encoder_memory_before_neck", content, tokens)


def _compare_answers(case: Case, output: DetectorOutput, prefix: str) -> None:
    layers = (*output.auxiliary, output.final)
    case.compare(f"{prefix}logits", torch.stack([layer.logits for layer in layers]))
    case.compare(f"{prefix}boxes", torch.stack([layer.boxes_cxcywh for layer in layers]))
    assert output.proposals is not None
    case.compare("enc_logits", output.proposals.logits)
    case.compare("enc_boxes", output.proposals.boxes_cxcywh)


def _compare_valid(case: Case, name: str, actual: Tensor, tokens: Tokens) -> None:
    """Padded tokens depend on how ties are broken."""
    hidden = tokens.padding[..., None]
    case.compare(name, actual.masked_fill(hidden, 0.0), expected=case.outputs[name].masked_fill(hidden, 0.0))


def _compare_sets(case: Case, name: str, actual: Tensor, expected: Tensor, tokens: Tokens) -> None:
    """The same valid tokens in each image, in any order."""
    chosen = [
        torch.zeros_like(tokens.padding).scatter(1, index, True) & ~tokens.padding for index in (actual, expected)
    ]
    case.compare(name, chosen[0], exact=True, expected=chosen[1])


def _by_token(index: Tensor, rows: Tensor, tokens: Tokens) -> Tensor:
    """Rows of a selection at their tokens; 0 at tokens that are padded or not selected."""
    rows = rows[..., None] if rows.ndim == 2 else rows
    dense = rows.new_zeros(*tokens.padding.shape, rows.shape[-1])
    dense = dense.scatter(1, index[..., None].expand_as(rows), rows)
    return dense.masked_fill(tokens.padding[..., None], 0.0)


def _maps(memory: Memory) -> SalienceMaps:
    maps = evidence_of(memory.evidence, SalienceMaps)
    assert maps is not None
    return maps


def _maps_of(output: DetectorOutput) -> SalienceMaps:
    maps = evidence_of(output.evidence, SalienceMaps)
    assert maps is not None
    return maps


def _given_maps(case: Case) -> tuple[SalienceMaps, list[Tensor]]:
    """Maps of the case's logits, and the logits as leaves."""
    names = sorted(name for name in case.inputs if name.startswith("salience_logits_lvl"))
    logits = [case.inputs[name].clone().requires_grad_() for name in names]
    height, width = (int(length) for length in case.inputs["padded_hw"])
    for logit, (stride_y, stride_x) in zip(logits, case.inputs["strides_yx"].tolist(), strict=True):
        assert (height / logit.shape[-2], width / logit.shape[-1]) == (stride_y, stride_x)
    return SalienceMaps(tuple(logit[:, 0] for logit in logits), (), (height, width)), logits


def _salience_loss(ranges: Sequence[Sequence[float]], config: dict[str, Any]) -> SalienceLoss:
    """Official ranges are either chained from level to level or the same everywhere (no limit)."""
    unlimited = all(list(limits) == list(ranges[0]) for limits in ranges)
    return SalienceLoss(
        limits_px=None if unlimited else tuple(high for _, high in ranges),
        alpha=config["alpha"],
        gamma=config["gamma"],
        mask_padding=False,
    )


def _output_of(maps: SalienceMaps) -> DetectorOutput:
    nothing = torch.zeros(len(maps.logits[0]), 1, 1)
    return DetectorOutput(Predictions(nothing, nothing.expand(-1, -1, 4)), evidence=(maps,))


def _normalized_targets(case: Case, prefix: str, sizes: Any) -> list[Target]:
    """Targets of recorded normalized boxes in images of these sizes."""
    targets = []
    for index, size in enumerate(sizes):
        height, width = (int(length) for length in size)
        boxes = case.inputs[f"{prefix}{index}"]
        labels = next(
            (case.inputs[name] for name in (f"labels_img{index}", f"target_labels_img{index}") if name in case.inputs),
            torch.zeros(len(boxes), dtype=torch.long),
        )
        pixels = cxcywh_to_xyxy(boxes) * torch.tensor([width, height, width, height])
        targets.append(Target.of(pixels, labels, (height, width)))
    return targets


def _noise(case: Case, prefix: str) -> DenoisingNoise:
    return DenoisingNoise(
        case.inputs[f"{prefix}label_flip_uniform"],
        case.inputs[f"{prefix}label_random_class"],
        case.inputs[f"{prefix}box_sign_bits"],
        case.inputs[f"{prefix}box_part_uniform"],
    )


def _given_output(
    leaves: dict[str, Tensor], maps: SalienceMaps, targets: Sequence[Target], groups: int, group_size: int
) -> DetectorOutput:
    layers = [Predictions(*pair) for pair in zip(leaves["decoder_logits"], leaves["decoder_boxes"], strict=True)]
    denoised = [Predictions(*pair) for pair in zip(leaves["dn_logits"], leaves["dn_boxes"], strict=True)]
    matches = [
        (image, group * group_size + slot, slot)
        for group in range(groups)
        for image, target in enumerate(targets)
        for slot in range(len(target))
    ]
    known = Matches(*torch.tensor(matches, dtype=torch.long).reshape(-1, 3).unbind(1))
    return DetectorOutput(
        final=layers[-1],
        auxiliary=tuple(layers[:-1]),
        proposals=Predictions(leaves["enc_logits"], leaves["enc_boxes"]),
        denoising=DenoisingPredictions(tuple(denoised), known, groups),
        evidence=(maps,),
    )


def _official_names(losses: dict[str, Tensor]) -> dict[str, str]:
    """Our loss name -> official one: "l1_denoising_0" is loss_bbox_dn_0."""
    names = {}
    for name in losses:
        official = name if name != "salience" else "loss_salience"
        for theirs, ours in TERMS.items():
            official = official.replace(ours, theirs) if official.startswith(ours) else official
        for theirs, ours in SETS.items():
            official = official.replace(ours, theirs)
        names[name] = official
    return names


def _weight(config: dict[str, Any], official: str) -> float:
    """The configuration names the weights of a term's layers, but not of every one."""
    weights = config["weights"]
    return weights.get(official) or weights[re.sub(r"(_dn)?(_\d+|_enc)?$", "", official)]


def _compare_matches(case: Case, sets: dict[str, SupervisedSet]) -> None:
    """Matches of each decoder layer and of the proposals, image by image, sorted by prediction."""
    decoder = {
        supervised.layer: supervised for supervised in sets.values() if supervised.name in ("final", "auxiliary")
    }
    named = {f"dec{layer}": supervised for layer, supervised in decoder.items()} | {"enc": sets["_proposals"]}
    for name, supervised in named.items():
        for image in range(len(supervised.targets)):
            own = supervised.matches.image == image
            case.compare(f"match/{name}_img{image}_pred", supervised.matches.query[own], exact=True)
            case.compare(f"match/{name}_img{image}_gt", supervised.matches.target[own], exact=True)
