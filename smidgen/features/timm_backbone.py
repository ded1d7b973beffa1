"""Any convolutional or hierarchical network of timm as a pyramid of feature maps.

Norms: "frozen" turns batch norms into fixed buffers (the DETR family with ImageNet weights; parameters then count as in
the official codes) and freezes the first stages; "batch" trains them; "group" builds the network with group norms,
which is what small batches without pretrained weights need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import timm
from timm.layers import GroupNorm  # type: ignore[attr-defined]
from torch import nn

from smidgen.nn.bottleneck_stride import stride_in_first_convolution
from smidgen.nn.frozen_batch_norm import freeze_batch_norms
from smidgen.structures import FeaturePyramid, ImageBatch

Norm = Literal["frozen", "batch", "group"]


class TimmBackbone(nn.Module):
    """`name` of timm, with or without the tag of its pretrained weights ("resnet50.tv2_in1k"), read at the given
    strides (finest first); stages behind the coarsest of them are not built.

    frozen_stages: with norm="frozen", how many of the network's stages, counted as in timm's `feature_info` (in a
    ResNet the stem is the first), receive no gradient.
    options: passed to timm.create_model, but `num_groups` (of group norms, if asked for) and `stride_in_1x1` (True:
    bottlenecks have their stride in the first convolution, as Caffe's weights want it). pretrained: ask timm for
    weights (needs the network).
    """

    def __init__(
        self,
        name: str,
        strides: Sequence[int] = (8, 16, 32),
        *,
        norm: Norm = "frozen",
        frozen_stages: int = 2,
        pretrained: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        options = dict(options or {})
        self.body = _create(name, norm, pretrained, dict(options))
        feature_info: Any = self.body.feature_info
        reductions = list(feature_info.reduction())
        missing = [stride for stride in strides if stride not in reductions]
        if missing:
            raise ValueError(
                f"expected strides out of {reductions} for the backbone {name!r}, got {tuple(strides)}; "
                "change model.backbone.strides"
            )
        self.indices = tuple(reductions.index(stride) for stride in strides)
        if max(self.indices) + 1 < len(reductions):
            built = tuple(range(max(self.indices) + 1))
            self.body = _create(name, norm, pretrained, {**options, "out_indices": built})
            feature_info = self.body.feature_info
        self.strides = tuple(strides)
        self.channels = tuple(feature_info.channels()[index] for index in self.indices)
        # Window transformers of timm give maps as batch, rows, columns, channels.
        self.channels_last = getattr(self.body, "output_fmt", None) == "NHWC"
        if norm == "frozen":
            self.body = freeze_batch_norms(self.body)
            self._freeze([info["module"] for info in feature_info.get_dicts()][:frozen_stages])

    def forward(self, images: ImageBatch) -> FeaturePyramid:
        """Maps of the chosen strides; `images` must be normalized."""
        maps = self.body(images.pixels)
        maps = [maps[index].permute(0, 3, 1, 2) if self.channels_last else maps[index] for index in self.indices]
        return FeaturePyramid.of(maps, images.padding, self.strides)

    def _freeze(self, stages: Sequence[str]) -> None:
        """Everything up to the end of the last of these stages, in the order in which the network was built."""
        remaining = set(stages)
        for name, module in self.body.named_modules():
            within = {stage for stage in stages if _is_within(name, stage)}
            if not remaining and not within:
                return
            remaining -= within
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
        if remaining:
            raise ValueError(
                f"expected the stages {', '.join(stages)} in the backbone to freeze them, found no "
                f"{', '.join(sorted(remaining))}; set model.backbone.frozen_stages=0 or model.backbone.norm=batch"
            )


def _is_within(module: str, stage: str) -> bool:
    # timm flattens the upper modules of some networks (what it calls stages.0 is then named stages_0), wraps others.
    module = module.removeprefix("model.")
    return f"{module}.".replace("_", ".").startswith(f"{stage}.".replace("_", "."))


def _create(name: str, norm: Norm, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    if not timm.is_model(name):
        raise ValueError(
            f"expected a model name of timm, got {name!r}; see timm.list_models(); change model.backbone.name"
        )
    num_groups = options.pop("num_groups", 8)
    if norm == "group":
        options["norm_layer"] = partial(GroupNorm, num_groups=num_groups)
    stride_in_1x1 = options.pop("stride_in_1x1", False)
    try:
        body: nn.Module = timm.create_model(name, features_only=True, pretrained=pretrained, **options)
    except Exception as error:
        if not pretrained:
            raise
        raise RuntimeError(
            f"could not get pretrained weights of {name!r} ({type(error).__name__}: {error}); "
            "without network access use pretrained=False or a local checkpoint"
        ) from error
    return stride_in_first_convolution(body) if stride_in_1x1 else body
