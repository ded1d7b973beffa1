"""Runners for the official Strip-MLP and for the authors' detection backbone with overlapping crops."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from golden import Case
from torch import Tensor, nn

from smidgen.features.strip_mlp import StripMLP, StripMLPBackbone, StripMLPSize
from smidgen.nn.overlapping_crops import CropPlan, OverlappingCrops, Rounding
from smidgen.nn.strip_mixing import StripBlock
from smidgen.structures import ImageBatch


def run_strip_block(case: Case) -> None:
    config = case.config
    height, width = config["H"], config["W"]
    assert height == width, "strip layers belong to a square grid"
    block = StripBlock(config["channels"], height, config["groups"])
    block.load_state_dict(case.weights)
    block.train(not config["eval_mode"])
    seen = {"after_mlp": "mlp", "strip_mlp_out": "fuse_w"}
    seen |= {name: name.removeprefix("raw_") for name in case.outputs if name.startswith("raw_")}
    outputs = _watch(block, set(seen.values()))
    with torch.no_grad():
        case.compare("block_out", block(case.inputs["x"], OverlappingCrops.of((height, width), height)))
        case.compare("pos_h", block.relate_pos_h())
        case.compare("pos_w", block.relate_pos_w())
    for name, module in seen.items():
        case.compare(name, outputs[module])
    case.assert_all_compared()


def run_strip_mlp(case: Case) -> None:
    config = case.config
    assert config["patch_size"] == 4 and config["alpha"] == 3, "the official code is fixed to these"
    assert config["eval_mode"], "residuals are dropped by chance in training"
    size = StripMLPSize(embed_dim=config["embed_dim"], depths=tuple(config["layers"]), trained_px=config["img_size"])
    network = StripMLP(size, num_classes=config["num_classes"], in_chans=config["in_chans"]).eval()
    network.load_state_dict(case.weights)
    modules = dict(network.named_modules())
    outputs = _watch(network, case.outputs.keys() & modules.keys() - {""})
    image = case.inputs["image"]
    with torch.no_grad():
        maps = list(network.stages(image))
        features = network.forward_head(network.forward_features(image), pre_logits=True)
        case.compare("logits", network(image))
    case.compare("features", features)
    for number, features in enumerate(maps, start=1):
        case.compare(f"stage{number}", features)
    for name, output in outputs.items():
        case.compare(name, output)
    case.assert_all_compared()


def run_clap_backbone(case: Case) -> None:
    config = case.config
    assert config["pad_image_to_multiple"] is None and config["batch_norm"] == "eval"
    size = StripMLPSize(
        embed_dim=config["embed_dim"],
        depths=tuple(config["layers"]),
        trained_px=config["pretrain_img_size"],
        groups=config["groups"],
    )
    assert list(size.grids) == config["stage_patch"]
    backbone = StripMLPBackbone(size, (4, 8, 16, 32), rounding=config["clap_rounding"])
    backbone.body.load_state_dict(case.weights)
    image = case.inputs["image"]
    padding = torch.zeros(len(image), *image.shape[-2:], dtype=torch.bool)
    with torch.no_grad():
        pyramid = backbone.eval()(ImageBatch(image, padding, (tuple(config["input_hw"]),) * len(image)))
        stages = list(backbone.body.stages(image))
    by_name = {f"out_stride{stride}": level for stride, level in zip(pyramid.strides, pyramid.levels, strict=True)}
    by_name |= {f"stage{number}": features for number, features in enumerate(stages, start=1)}
    by_name["stage4_before_norm"] = by_name.pop("stage4")
    for name in case.outputs:
        case.compare(name, by_name[name])
    case.assert_all_compared()


def run_clap_plan(case: Case) -> None:
    lengths, sizes = (case.inputs[name].tolist() for name in ("W", "patch"))
    for mode in cast("list[Rounding]", case.config["modes"]):
        plans = [CropPlan.of(length, size, mode) for length, size in zip(lengths, sizes, strict=True)]
        case.compare(f"{mode}_n", torch.tensor([len(plan.starts) for plan in plans]))
        case.compare(f"{mode}_overlap", torch.tensor([plan.overlap for plan in plans]))
        case.compare(f"{mode}_last_overlap", torch.tensor([plan.last_overlap for plan in plans]))
        case.compare(f"{mode}_pad_end", torch.tensor([plan.missing for plan in plans]))
        case.compare(f"{mode}_starts", _rows([torch.tensor(plan.starts) for plan in plans], case, f"{mode}_starts", -1))
        counts = _rows([plan.counts() for plan in plans], case, f"{mode}_count", 0)
        case.compare(f"{mode}_count", counts)
        case.compare(f"{mode}_weight", torch.where(counts > 0, 1 / counts.clamp(min=1).double(), 0))
    # The equations as printed cannot be used: the case holds them for reference.
    case.assert_all_compared(besides=frozenset({"printed_eq_n", "printed_eq_l"}))


def _rows(rows: list[Tensor], case: Case, name: str, fill: int) -> Tensor:
    """Rows of different lengths, filled up to the width of the expected table."""
    table = torch.full((len(rows), case.outputs[name].shape[1]), fill)
    for filled, row in zip(table, rows, strict=True):
        filled[: len(row)] = row
    return table


def _watch(network: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """What these modules give, once the network runs."""
    outputs: dict[str, Tensor] = {}
    for name in names:
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: outputs.__setitem__(name, output)
        )
    return outputs
