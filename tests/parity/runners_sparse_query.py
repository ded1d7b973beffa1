"""Runners for QueryDet's cascade: sparse heads, the choice of cells, the whole of it, and its alternatives."""

from __future__ import annotations

import numpy as np
import torch
from golden import Case
from torch import Tensor, nn

from smidgen.boxes.anchors import AnchorShapes, octave_sizes
from smidgen.decoder.cascaded_head import CascadeAnswers, complete_query, crop_query, run_cascade, sparse_query
from smidgen.decoder.dense_head import DenseHead, QueryHead
from smidgen.decoder.dense_readout import AnchorBoxes, DenseReadout, ScoredBoxes
from smidgen.nn.convolution_tower import ConvolutionTower
from smidgen.nn.sparse_convolution import Branch, Kernel, dense_maps, masked_dense, on_cells
from smidgen.structures import Cells, DenseOutput, LevelAnswers
from smidgen.tokens.cascade_sparse_query import CascadeSparseQuery, with_context


def run_sparse_head(case: Case) -> None:
    features, active = case.inputs["x"], Cells.where(case.inputs["mask"][:, 0] > 0)
    weights = _weights(case)
    branches = {name: _branch(weights, name) for name in ("cls", "box", "query")}
    for dense_share in (1.0, 0.0):
        outputs = on_cells(features, list(branches.values()), active, active, dense_share=dense_share)
        for name, answers in zip(branches, outputs, strict=True):
            case.compare(name, _as_map(answers, active))
    mask = active.mask()[:, None]
    for name, branch in branches.items():
        case.compare(f"{name}_dense_then_mask", dense_maps(features, branch)[0] * mask)
    case.assert_all_compared()


def run_key_mapping(case: Case) -> None:
    config = case.config
    start_logits, finer_logits = (case.inputs[f"query_logits_{level}"][:, 0] for level in ("p4", "p3_dense"))
    for threshold in config["sigmas"]:
        for context in config["contexts"]:
            cascade = CascadeSparseQuery(threshold, context)
            name, query_logits = f"s{threshold}_c{context}", start_logits
            for level in (3, 2):
                keys = cascade.keys(query_logits, tuple(config[f"p{level}_hw"]))
                case.compare(f"{name}_keys_p{level}", _places(keys))
                case.compare(f"{name}_active_p{level}", _places(with_context(keys, context)))
                query_logits = finer_logits.masked_fill(~keys.mask(), -torch.inf) if level == 3 else query_logits
    case.assert_all_compared()


def run_end_to_end(case: Case) -> None:
    config, weights = case.config, _weights(case)
    names = sorted(case.inputs)
    levels = [case.inputs[name] for name in names]
    head = DenseHead(config["channels"], config["num_classes"], config["num_anchors"], _depth(weights, "cls"))
    _load(head.class_tower, head.class_prediction, weights, "cls")
    _load(head.box_tower, head.box_prediction, weights, "box")
    query_head = QueryHead(config["channels"], _depth(weights, "query"))
    _load(query_head.tower, query_head.prediction, weights, "query")
    anchors = AnchorShapes(octave_sizes([4.0 * 2 ** int(name[1:]) for name in names]))
    start = names.index("p4")
    cascade = CascadeSparseQuery(config["sigma"], config["context"], start)
    with torch.no_grad():
        found, dense = run_cascade(levels, head, query_head, cascade), head.on_levels(levels)
    case.compare("query_logits_p4", found.query_logits[0][1][:, None])
    for index in range(start):
        _compare_level(case, found, index, names[index], anchors)
    strides = tuple(2 ** int(name[1:]) for name in names)
    readout = DenseReadout(
        AnchorBoxes(anchors), config["score_thresh"], config["topk"], config["nms"], config["max_dets"]
    )
    for prefix, answers in (("det", found.levels), ("dense_det", dense)):
        boxes = readout.suppressed(_output(answers, strides, config["image_hw"]), 0)
        _compare_boxes(case, prefix, boxes)
    case.assert_all_compared()


def run_query_variants(case: Case) -> None:
    features, branch = case.inputs["x"], _branch(_weights(case), "cls")
    keys = _cells(case.outputs["keys"], (features.shape[2], features.shape[3]))
    case.compare("keys", _places(keys))
    anchors = case.config["num_anchors"]

    def at_keys(outputs: tuple[Tensor, ...]) -> Tensor:
        return outputs[0].unflatten(1, (anchors, -1))

    case.compare("ccq_cls", at_keys(complete_query(features, [branch], keys, 0, None).outputs))
    case.compare("cq_valid_zero_pad_cls", at_keys(crop_query(features, [branch], keys, 0, None).outputs))
    for name in (name for name in case.outputs if name.startswith("csq_context")):
        context = int(name.removeprefix("csq_context").removesuffix("_cls"))
        case.compare(name, at_keys(sparse_query(features, [branch], keys, context, None).outputs))
        case.compare(name, at_keys(masked_dense(features, [branch], with_context(keys, context), keys)))
    reach, (height, width) = branch.reach, keys.shape
    inside = [(place >= reach) & (place < side - reach) for place, side in ((keys.row, height), (keys.column, width))]
    case.compare("interior", inside[0] & inside[1], exact=True)
    case.assert_all_compared()


def _weights(case: Case) -> dict[str, Tensor]:
    """These cases keep their weights as named arrays."""
    with np.load(case.folder / "weights.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def _depth(weights: dict[str, Tensor], name: str) -> int:
    return sum(key.startswith(f"{name}_conv") and key.endswith("_w") for key in weights)


def _branch(weights: dict[str, Tensor], name: str) -> Branch:
    layers = [f"{name}_conv{index}" for index in range(_depth(weights, name))]
    tower = tuple(Kernel(weights[f"{layer}_w"], weights[f"{layer}_b"]) for layer in layers)
    return Branch(tower, (Kernel(weights[f"{name}_pred_w"], weights[f"{name}_pred_b"]),))


def _load(tower: ConvolutionTower, prediction: nn.Conv2d, weights: dict[str, Tensor], name: str) -> None:
    branch = _branch(weights, name)
    for layer, kernel in zip((*tower.convolutions, prediction), (*branch.tower, *branch.predictions), strict=True):
        layer.load_state_dict({"weight": kernel.weight, "bias": kernel.bias})


def _places(cells: Cells) -> Tensor:
    return torch.stack([cells.row, cells.column], dim=1)


def _cells(places: Tensor, shape: tuple[int, int]) -> Cells:
    row, column = places.long().T
    return Cells(torch.zeros_like(row), row, column, shape, 1)


def _as_map(answers: Tensor, cells: Cells) -> Tensor:
    level = answers.new_zeros((cells.batch, *cells.shape, answers.shape[1]))
    level[cells.image, cells.row, cells.column] = answers
    return level.permute(0, 3, 1, 2)


def _compare_level(case: Case, found: CascadeAnswers, index: int, name: str, anchors: AnchorShapes) -> None:
    computed, answers = found.computed.levels[index], found.levels[index]
    assert computed.level == index and answers.cells is computed.keys
    case.compare(f"keys_{name}", _places(computed.keys), exact=True)
    case.compare(f"active_{name}", _places(computed.active), exact=True)
    case.compare(f"cls_logits_{name}", answers.logits)
    case.compare(f"box_deltas_{name}", answers.regression)
    case.compare(f"anchors_{name}", anchors.at_cells(index, computed.keys, 2 ** int(name[1:])))


def _output(levels: tuple[LevelAnswers, ...], strides: tuple[int, ...], image_hw: list[int]) -> DenseOutput:
    size_hw = (image_hw[0], image_hw[1])
    return DenseOutput(levels, strides, size_hw, (size_hw,))


def _compare_boxes(case: Case, prefix: str, found: ScoredBoxes) -> None:
    """Boxes and scores to the tolerances that the case gives for them."""
    fields = case.description["tolerance"]["fields"]
    expected = {name: case.outputs[f"{prefix}_{name}"] for name in ("boxes", "scores", "classes")}
    atol = {name: fields.get(name, case.description["tolerance"])["atol"] for name in ("boxes", "scores")}
    torch.testing.assert_close(found.scores, expected["scores"], atol=atol["scores"], rtol=0)
    torch.testing.assert_close(found.boxes_xyxy, expected["boxes"], atol=atol["boxes"], rtol=0)
    assert torch.equal(found.labels, expected["classes"])
    case.compared.update(f"{prefix}_{name}" for name in expected)
