"""Runners for Salience DETR's cross-level fusion and for its redundancy removal."""

from __future__ import annotations

import torch
from golden import Case
from torch import Tensor

from smidgen.checkpoints.salience_layout import SALIENCE_DETR
from smidgen.queries.suppressed_topk import SuppressedTopK
from smidgen.structures import Memory, Proposals, QueryBudget, Tokens
from smidgen.tokens.cross_level_fusion import CrossLevelFusion


def run_neck(case: Case) -> None:
    config = case.config
    fusion = CrossLevelFusion(
        config["channels"][0],
        len(config["channels"]),
        num_blocks=config["num_blocks"],
        groups=config["groups"],
        gate_reduction=config["se_reduction"],
        mask_padding=False,
    )
    official = {name: _official_name(name) for name in fusion.state_dict()}
    assert set(official.values()) == set(case.weights)
    fusion.load_state_dict({name: case.weights[official[name]] for name in official})
    with torch.no_grad():
        _compare_maps(case, "eval_out", fusion.eval())
        _compare_parts(case, fusion)
        _compare_maps(case, "train_out", fusion.train())
    for name, tensor in fusion.state_dict().items():
        if f"after_train_forward.{official[name]}" in case.outputs:
            case.compare(f"after_train_forward.{official[name]}", tensor)
    case.assert_all_compared()


def _official_name(name: str) -> str:
    return SALIENCE_DETR.official_name(f"encoder.stages.0.{name}").removeprefix("transformer.neck.")


def _compare_maps(case: Case, prefix: str, fusion: CrossLevelFusion) -> None:
    maps = [case.inputs[f"feat{level}"] for level in range(len(case.config["channels"]))]
    for level, fused in enumerate(fusion.fuse_maps(maps, [_shown(features) for features in maps])):
        case.compare(f"{prefix}{level}", fused)


def _compare_parts(case: Case, fusion: CrossLevelFusion) -> None:
    features = case.inputs["block_in"]
    block, shown = fusion.bottom_up[0].blocks[0], _shown(features)
    case.compare("eval_block_out", block(features, shown))
    case.compare("eval_block_se_out", block.gate(features, shown))
    case.compare("eval_csp_out", fusion.top_down[0](torch.cat([features, features.flip(1)], dim=1), shown))


def _shown(features: Tensor) -> Tensor:
    return torch.zeros(features.shape[0], *features.shape[2:], dtype=torch.bool)


def run_nms_selection(case: Case) -> None:
    logits = case.inputs["class_logits"]
    shapes = tuple((int(rows), int(columns)) for rows, columns in case.config["spatial_shapes_hw"])
    selection = SuppressedTopK(case.config["iou_threshold"], skip_invalid=False, fill=False)
    memory, proposals = _proposing(logits, shapes)
    budget = QueryBudget(case.config["num_queries"])
    candidates, _ = selection.candidates(proposals, budget)
    case.compare("topk_index", candidates, exact=True)
    case.compare("topk_scores", logits.amax(dim=-1).gather(1, candidates))
    for image, kept in enumerate(selection.survivors(candidates, shapes)):
        case.compare(f"survivors_img{image}", candidates[image, kept], exact=True)
    case.compare("selected_index", selection(memory, proposals, budget).token_index, exact=True)
    case.assert_all_compared()


def _proposing(logits: Tensor, shapes: tuple[tuple[int, int], ...]) -> tuple[Memory, Proposals]:
    batch, count, _ = logits.shape
    content, shown = torch.zeros(batch, count, 1), torch.ones(batch, count, dtype=torch.bool)
    strides = tuple(8 * 2**level for level in range(len(shapes)))
    tokens = Tokens(content, content, ~shown, torch.ones(batch, len(shapes), 2), shapes, strides)
    return Memory.of(tokens), Proposals(logits, torch.full((batch, count, 4), 0.5), content, shown)
