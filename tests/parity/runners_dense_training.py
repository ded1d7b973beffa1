"""Runners for what trains a dense detector: pyramid, anchors, maps of small objects, losses."""

from __future__ import annotations

import numpy as np
import torch
from golden import Case
from torch import Tensor

from smidgen.boxes.anchors import AnchorShapes, cell_centers
from smidgen.features.feature_pyramid import FeaturePyramidNetwork
from smidgen.structures import FeaturePyramid


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


def _native_name(official: str, maps: list[str]) -> str:
    module, parameter = official.rsplit(".", 1)
    if module.startswith("top_block.p"):
        return f"top.{int(module[-1]) - int(maps[-1][-1]) - 1}.{parameter}"
    kind = "laterals" if "lateral" in module else "outputs"
    return f"{kind}.{int(module[-1]) - int(maps[0][-1])}.{parameter}"


def _weights(case: Case) -> dict[str, Tensor]:
    with np.load(case.folder / "weights.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
