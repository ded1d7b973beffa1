"""ShuffleNetV2 of torchvision, which timm lacks, as a pyramid of feature maps.

Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", ECCV 2018. The maps are those of
QueryDet's light backbones (Yang et al., CVPR 2022, table 7): the max-pool, stages 2 and 3, and the last 1x1
convolution. The package that QueryDet used set scale and shift of all batch norms back to 1 and 0 after loading the
pretrained weights; here they stay as they were learned.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal

from torch import nn
from torchvision import models

from smidgen.nn.frozen_batch_norm import freeze_batch_norms
from smidgen.structures import FeaturePyramid, ImageBatch

NAMES = ("shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0")
# Pixels per cell -> the last module before the map is read, and the modules up to there in order.
TAPS = {4: "maxpool", 8: "stage2", 16: "stage3", 32: "conv5"}
MODULES = ("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5")


class ShuffleNetBackbone(nn.Module):
    """`name` of torchvision, read at the given strides (finest first); modules behind the coarsest are left out.

    norm: "frozen" (fixed batch norms) or "batch". frozen_stages: with norm="frozen", how many stages receive no
    gradient; the stem is the first. pretrained: ask torchvision for its ImageNet weights (needs the network).
    """

    def __init__(
        self,
        name: str = "shufflenet_v2_x1_0",
        strides: Sequence[int] = (8, 16, 32),
        *,
        norm: Literal["frozen", "batch"] = "frozen",
        frozen_stages: int = 2,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        _check(name, strides, norm)
        network: Any = _network(name, pretrained)
        last = MODULES.index(TAPS[max(strides)])
        self.body = nn.Sequential(OrderedDict((part, getattr(network, part)) for part in MODULES[: last + 1]))
        self.strides = tuple(strides)
        channels = {4: network.conv1[0], 8: network.stage2[-1], 16: network.stage3[-1], 32: network.conv5[0]}
        self.channels = tuple(_out_channels(channels[stride]) for stride in strides)
        if norm == "frozen":
            self.body = freeze_batch_norms(self.body)
            _freeze(self.body, frozen_stages)

    def forward(self, images: ImageBatch) -> FeaturePyramid:
        """Maps of the chosen strides; `images` must be normalized."""
        features, maps = images.pixels, {}
        for part, module in self.body.named_children():
            features = module(features)
            maps[part] = features
        return FeaturePyramid.of([maps[TAPS[stride]] for stride in self.strides], images.padding, self.strides)


def _check(name: str, strides: Sequence[int], norm: str) -> None:
    if name not in NAMES:
        raise ValueError(f"expected one of {', '.join(NAMES)}, got {name!r}; change model.backbone.name")
    if not strides or set(strides) - set(TAPS):
        raise ValueError(f"expected strides out of {list(TAPS)}, got {tuple(strides)}; change model.backbone.strides")
    if norm not in ("frozen", "batch"):
        raise ValueError(f"expected norm 'frozen' or 'batch' for {name}, got {norm!r}; change model.backbone.norm")


def _network(name: str, pretrained: bool) -> nn.Module:
    try:
        network: nn.Module = models.get_model(name, weights="DEFAULT" if pretrained else None)
    except Exception as error:
        if not pretrained:
            raise
        raise RuntimeError(
            f"could not get pretrained weights of {name!r} ({type(error).__name__}: {error}); "
            "without network access use pretrained=False or a local checkpoint"
        ) from error
    return network


def _out_channels(module: nn.Module) -> int:
    """Of a convolution, or of a unit whose two branches are put one behind the other."""
    if isinstance(module, nn.Conv2d):
        return module.out_channels
    branch: Any = module.branch2
    return 2 * int(branch[-3].out_channels)


def _freeze(body: nn.Module, stages: int) -> None:
    """Stages as in the paper's table 5: the stem (convolution and max-pool), stages 2 to 4, the last convolution."""
    stems = {"conv1": 1, "maxpool": 1, "stage2": 2, "stage3": 3, "stage4": 4, "conv5": 5}
    for part, module in body.named_children():
        if stems[part] <= stages:
            module.requires_grad_(False)
