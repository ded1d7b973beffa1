"""Runners for what trains a dense detector: pyramid, anchors, maps of small objects, losses."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import torch
from golden import Case
from torch import Tensor

from smidgen.assignment.anchor_overlap import AnchorOverlap
from smidgen.boxes.anchors import AnchorShapes, cell_centers, octave_sizes
from smidgen.boxes.answer_matches import AnswerMatches
from smidgen.boxes.box_coding import encode_deltas
from smidgen.features.feature_pyramid import FeaturePyramidNetwork
from smidgen.losses.dense_loss import AnchorLoss, BoxLoss, FocalLoss, SmoothL1OfDeltas, giou_of_deltas
from smidgen.losses.positive_count import RunningPositiveCount
from smidgen.losses.small_object_map import SmallObjectLoss, small_object_map
from smidgen.structures import DenseOutput, FeaturePyramid, LevelAnswers, Target


def run_feature_pyramid(case: Case) -> None:
    names = sorted(case.config["in_channels"])
    network = FeaturePyramidNetwork(
        [case.config["in_channels"][name] for name in names],
        case.config["out_channels"],
        num_levels=len(case.outputs),
    )
    network.load_state_dict({_native_name(name, names): tensor for name, tensor in _weights(case).items()})
    maps = [case.inputs[name] for name in names]
    finest = int(names[0].removeprefix("res"))
    rows, columns = (side * 2**finest for side in maps[0].shape[-2:])
    canvas = torch.zeros(len(maps[0]), rows, columns, dtype=torch.bool)
    with torch.no_grad():
        result = network(FeaturePyramid.of(maps, canvas, [2 ** (finest + index) for index in range(len(maps))]))
    for stride, level in zip(result.strides, result.levels, strict=True):
        case.compare(f"p{stride.bit_length() - 1}", level)
    case.assert_all_compared()


def run_anchors(case: Case) -> None:
    config = case.config
    shapes = AnchorShapes(
        tuple(tuple(sizes) for sizes in config["sizes"]), tuple(config["ratios"]), config["anchor_offset"]
    )
    for index, (level, stride) in enumerate(sorted(config["strides"].items(), key=lambda item: int(item[0]))):
        rows, columns = config["feature_hw"][f"p{level}"]
        anchors = shapes.of_level(index, (rows, columns), stride)
        case.compare(f"anchors_p{level}", anchors.flatten(0, 1))
        case.compare(f"centers_p{level}", cell_centers((rows, columns), stride, config["anchor_offset"]))
        case.compare(f"cell_anchors_p{level}", shapes.around_origin(index))
        if f"query_centers_p{level}" in case.outputs:
            centers = cell_centers((rows, columns), stride, config["query_offset"])
            case.compare(f"query_centers_p{level}", centers)
        counted = config["feature_hw_800x1344"][f"p{level}"]
        assert counted[0] * counted[1] * shapes.num_anchors == config["count_800x1344"][f"p{level}"]
    case.assert_all_compared()


def run_query_targets(case: Case) -> None:
    """Outputs are named <rule>_<level>[_coeff<number>]: the rule "target" reaches as far as the object's own size,
    "paper_eq3_pixel" as far as the level's limit.
    """
    config = case.config
    images = [case.inputs[f"boxes_{image}"] for image in config["image_order"]]
    coefficients = dict(zip(config["strides"], config["coeff"], strict=True))
    for name in case.outputs:
        rule, level, coefficient = re.fullmatch(r"(target|paper_eq3_pixel)_(p\d)(?:_coeff(.+))?", name).groups()
        radius = "object" if rule == "target" else "threshold"
        maps = [
            small_object_map(
                boxes,
                tuple(config["feature_hw"][level]),
                config["strides"][level],
                tuple(config["small_scale"][level]),
                radius,
                # The paper's rule has no coefficient.
                float(coefficient or (coefficients[level] if radius == "object" else 1.0)),
            )
            for boxes in images
        ]
        case.compare(name, torch.stack(maps).flatten(1))
    case.assert_all_compared()


def run_losses(case: Case) -> None:
    output, targets = _dense_output(case), _targets(case)
    criterion = _criterion(case)
    matches = criterion.matches(output, targets)
    _compare_matches(case, criterion, output, targets, matches)
    case.compare("per_level_cls_sum", criterion.class_sums(output, targets, matches))
    case.compare("per_level_reg_sum", criterion.box_sums(output, targets, matches))
    weightings = {name.removesuffix("_normalizer") for name in case.outputs if name.endswith("_normalizer")}
    for weighting in weightings:
        criterion = _criterion(case, case.config.get(f"beta_{weighting}"))
        expected = case.outputs[f"{weighting}_normalizer"]
        steps = [(criterion(output, targets, 0.0), criterion.normalizer.count.clone()) for _ in expected]
        case.compare(f"{weighting}_normalizer", torch.stack([count for _, count in steps]))
        case.compare(f"{weighting}_loss_cls", torch.stack([losses["classification"] for losses, _ in steps]))
        case.compare(f"{weighting}_loss_box_reg", torch.stack([losses["box"] for losses, _ in steps]))
        if f"{weighting}_giou_loss_box_reg" in case.outputs:
            criterion = _criterion(case, case.config.get(f"beta_{weighting}"), giou_of_deltas)
            case.compare(f"{weighting}_giou_loss_box_reg", criterion(output, targets, 0.0)["box"])
    _compare_query_losses(case, output, targets)
    case.assert_all_compared()


def _compare_query_losses(case: Case, output: DenseOutput, targets: list[Target]) -> None:
    query = case.config["query"]
    for name, gamma in query.items():
        if name.startswith("gamma_"):
            term = SmallObjectLoss(alpha=query["alpha"], gamma=gamma, level_weights=tuple(query["weight"]))
            value = term(output, targets, 0.0)["small_object"]
            case.compare(f"{name.removeprefix('gamma_')}_loss_query", value)
    for level, logits in output.query_logits:
        stride = output.strides[level]
        wanted = SmallObjectLoss().targets((logits.shape[1], logits.shape[2]), stride, targets)
        case.compare(f"query_target_p{stride.bit_length() - 1}", wanted.flatten(1))


def _compare_matches(
    case: Case, criterion: AnchorLoss, output: DenseOutput, targets: list[Target], matches: AnswerMatches
) -> None:
    """The official order is level by level and then image by image, ours the other way round."""
    sizes = [level.shape[0] * level.shape[1] * level.logits.shape[1] for level in output.levels]

    def flat(values: Tensor) -> Tensor:
        return torch.cat([level.flatten(0, 1) for level in values.split(sizes, dim=1)])

    case.compare("gt_classes", flat(matches.labels(targets, case.config["K"])))
    positive = flat(matches.positive)
    case.compare("fg_index", positive.nonzero()[:, 0])
    case.compare("fg_per_level", torch.stack([level.sum() for level in matches.positive.split(sizes, dim=1)]))
    anchors = torch.cat(
        [
            criterion.anchors.of_level(index, level.shape, stride).flatten(0, 1)
            for index, (level, stride) in enumerate(zip(output.levels, output.strides, strict=True))
        ]
    )
    pairs = matches.pairs()
    objects = torch.cat([target.boxes_xyxy for target in targets])[pairs.flat_target(targets)]
    deltas = torch.zeros(*matches.target.shape, 4)
    deltas[pairs.image, pairs.query] = encode_deltas(anchors[pairs.query], objects)
    case.compare("fg_reg_targets", flat(deltas)[positive])


def _criterion(case: Case, level_weights: list[float] | None = None, box_loss: BoxLoss | None = None) -> AnchorLoss:
    config = case.config
    bases = [4.0 * stride for stride in _strides(config["feature_hw"])]
    background_iou, foreground_iou = config["iou"]
    return AnchorLoss(
        AnchorShapes(octave_sizes(bases)),
        AnchorOverlap(foreground_iou=foreground_iou, background_iou=background_iou, low_quality=config["low_quality"]),
        RunningPositiveCount(),
        level_weights=level_weights,
        class_loss=FocalLoss(alpha=config["alpha"], gamma=config["gamma"]),
        box_loss=box_loss or SmoothL1OfDeltas(beta=config["smooth_l1_beta"]),
    )


def _dense_output(case: Case) -> DenseOutput:
    names = list(case.config["feature_hw"])
    levels = []
    for name in names:
        logits, deltas = case.inputs[f"logits_{name}"], case.inputs[f"deltas_{name}"]
        levels.append(
            LevelAnswers(
                _rows(logits, case.config["K"]),
                _rows(deltas, 4),
                None,
                (logits.shape[2], logits.shape[3]),
                logits.shape[0],
            )
        )
    queries = tuple(
        (names.index(name), case.inputs[f"query_logits_{name}"][:, 0]) for name in case.config["query"]["levels"]
    )
    height, width = case.config["image_hw"]
    batch = levels[0].batch
    return DenseOutput(
        tuple(levels), _strides(case.config["feature_hw"]), (height, width), ((height, width),) * batch, queries
    )


def _rows(channels: Tensor, last: int) -> Tensor:
    """Channels answer by answer to n x A x `last`."""
    return channels.permute(0, 2, 3, 1).flatten(0, 2).unflatten(1, (-1, last))


def _targets(case: Case) -> list[Target]:
    count = sum(name.startswith("classes") for name in case.inputs)
    height, width = case.config["image_hw"]
    return [
        Target.of(case.inputs[f"boxes{image}"], case.inputs[f"classes{image}"], (height, width))
        for image in range(count)
    ]


def _strides(levels: Iterable[str]) -> tuple[int, ...]:
    return tuple(2 ** int(name.removeprefix("p")) for name in levels)


def _native_name(official: str, maps: list[str]) -> str:
    module, parameter = official.rsplit(".", 1)
    if module.startswith("top_block.p"):
        return f"top.{int(module[-1]) - int(maps[-1][-1]) - 1}.{parameter}"
    kind = "laterals" if "lateral" in module else "outputs"
    return f"{kind}.{int(module[-1]) - int(maps[0][-1])}.{parameter}"


def _weights(case: Case) -> dict[str, Tensor]:
    with np.load(case.folder / "weights.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
