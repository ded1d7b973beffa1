"""Strip-MLP, a network of convolutions and of perceptrons over strips, as a classifier and as a detector's backbone.

Guiping Cao et al., "Strip-MLP: Efficient Token Interaction for Vision MLP", ICCV 2023; as a backbone in Cross-DINO,
which sees larger images through overlapping crops of each block's map (CLAP). Blocks stand in nn/strip_mixing.py, crops
in nn/overlapping_crops.py; parameters are named as in the official code. Unlike it, any image from 32 x 32 pixels up is
accepted, for classification too; at the trained size (224) there is one crop, and nothing differs.

timm's create_model knows the sizes by the names of `SIZES`. There are no weights to download.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Any, Literal

from jaxtyping import Float
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from smidgen.nn.overlapping_crops import OverlappingCrops, Rounding
from smidgen.nn.strip_mixing import StripMLPBlock
from smidgen.structures import FeaturePyramid, ImageBatch

STRIDES = (4, 8, 16, 32)

# What each stage consists of, in the order of computation; depthwise skips carry stages 2 and 3 to later ones.
_STAGES = (
    ("patch_embed", "blocks1"),
    ("merging1", "blocks2"),
    ("merging2", "conv_s1_28", "blocks3"),
    ("merging3", "conv_s1_14", "conv_s2_14", "blocks4", "norm"),
)


@dataclass(frozen=True, kw_only=True)
class StripMLPSize:
    """embed_dim: channels of the first stage, doubled by each further one. depths: blocks of each stage.

    trained_px: side of the training images: the strip layers belong to its maps. groups: channel groups that share the
    weights of a strip layer; None = 2 in blocks whose channels divide by 80, else 4.
    """

    embed_dim: int
    depths: tuple[int, int, int, int]
    trained_px: int = 224
    groups: int | None = None

    def __post_init__(self) -> None:
        if self.trained_px < 32 or self.trained_px % 32:
            raise ValueError(f"expected a multiple of 32 as Strip-MLP's trained_px, got {self.trained_px}")

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each stage's map."""
        return tuple(self.embed_dim * 2**stage for stage in range(4))

    @property
    def grids(self) -> tuple[int, ...]:
        """Side of the maps that the strip layers of each stage belong to, in cells: 56, 28, 14 and 7 at 224 px."""
        return tuple(self.trained_px // stride for stride in STRIDES)

    def groups_of(self, channels: int) -> int:
        """Channel groups of a block."""
        return self.groups or (2 if channels % 80 == 0 else 4)


SIZES: Mapping[str, StripMLPSize] = MappingProxyType(
    {
        "strip_mlp_nano": StripMLPSize(embed_dim=16, depths=(1, 1, 2, 1), trained_px=64),
        "strip_mlp_t_light": StripMLPSize(embed_dim=80, depths=(2, 2, 6, 2)),
        "strip_mlp_t": StripMLPSize(embed_dim=80, depths=(2, 2, 12, 2)),
        "strip_mlp_s": StripMLPSize(embed_dim=96, depths=(2, 2, 18, 2)),
        "strip_mlp_b": StripMLPSize(embed_dim=112, depths=(2, 2, 18, 2)),
    }
)
"""The paper's T*, T, S and B, and one for tests and demonstrations."""


class StripMLP(nn.Module):
    """The classifier; `stages` are its maps.

    drop_path_rate: how often each residual is dropped in training, the same in all blocks as in the official code.
    rounding: of the crops' plan, for images of other sizes than the trained one; it belongs to the weights.
    num_classes (0 = no head), in_chans and the methods about intermediate layers and the head are timm's conventions.
    """

    def __init__(
        self,
        size: StripMLPSize,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_path_rate: float = 0.1,
        rounding: Rounding = "exact",
    ) -> None:
        super().__init__()
        self.size, self.rounding, self.num_classes = size, rounding, num_classes
        self.num_features = self.head_hidden_size = size.channels[-1]
        self.feature_info = [
            {"num_chs": channels, "reduction": stride, "module": parts[-1]}
            for channels, stride, parts in zip(size.channels, STRIDES, _STAGES, strict=True)
        ]
        first, second, third, fourth = size.channels
        self.patch_embed = nn.Conv2d(in_chans, first, 4, stride=4, bias=False)
        self.blocks1 = self._blocks(0, drop_path_rate)
        self.merging1 = _halved(first)
        self.blocks2 = self._blocks(1, drop_path_rate)
        self.merging2 = _halved(second)
        self.conv_s1_28 = _halved(second, depthwise=True)
        self.blocks3 = self._blocks(2, drop_path_rate)
        self.merging3 = _halved(third)
        self.conv_s1_14 = _halved(third, depthwise=True)
        self.conv_s2_14 = _halved(third, depthwise=True)
        self.blocks4 = self._blocks(3, drop_path_rate)
        self.norm = nn.BatchNorm2d(fourth)
        self.head = _head(fourth, num_classes)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Class logits of normalized images."""
        return self.forward_head(self.forward_features(images))

    def stages(self, images: Float[Tensor, "B C H W"]) -> Iterator[Float[Tensor, "B _ _ _"]]:
        """Maps of the four stages, each computed when it is asked for; the last one before the final norm."""
        _check_size(images)
        self._check_statistics(images)
        first = self._mixed(0, self.blocks1, self.patch_embed(images))
        yield first
        entering = self.merging1(first)
        second = self._mixed(1, self.blocks2, entering)
        yield second
        merged, skipped = self.merging2(second), self.conv_s1_28(entering)
        third = self._mixed(2, self.blocks3, merged + skipped)
        yield third
        skipped = self.conv_s1_14(skipped) + self.conv_s2_14(merged)
        yield self._mixed(3, self.blocks4, self.merging3(third) + skipped)

    def maps(self, images: Float[Tensor, "B C H W"], count: int = 4) -> list[Float[Tensor, "B _ _ _"]]:
        """The first `count` stages' maps, as detectors read them: raw, the fourth after the final norm."""
        maps = list(islice(self.stages(images), count))
        return [*maps[:3], self.norm(maps[3])] if count == 4 else maps

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """The last map."""
        return self.maps(images)[-1]

    def forward_head(self, features: Float[Tensor, "B C H W"], pre_logits: bool = False) -> Float[Tensor, "B K"]:
        """Logits of the mean over the map; `pre_logits`: the mean."""
        pooled = features.mean(dim=(2, 3))
        return pooled if pre_logits else self.head(pooled)

    def forward_intermediates(
        self,
        x: Float[Tensor, "B C H W"],
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Maps of the chosen stages (the fourth is always normalized), and before them the last map unless
        `intermediates_only`. The names are timm's.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"expected output_fmt='NCHW' for Strip-MLP, got {output_fmt!r}")
        taken, last = feature_take_indices(4, indices)  # type: ignore[arg-type]
        maps = self.maps(x, last + 1 if intermediates_only or stop_early else 4)
        chosen = [maps[index] for index in taken]
        return chosen if intermediates_only else (maps[-1], chosen)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Delete the head and the stages behind the last of `indices`; the final norm belongs to the fourth."""
        taken, last = feature_take_indices(4, indices)  # type: ignore[arg-type]
        for name in (name for parts in _STAGES[last + 1 :] for name in parts):
            delattr(self, name)
        if prune_head:
            self.reset_classifier(0)
        return list(taken)

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer; pooling is always the mean."""
        self.num_classes, self.head = num_classes, _head(self.num_features, num_classes)

    def _blocks(self, stage: int, drop_path: float) -> nn.ModuleList:
        channels, grid = self.size.channels[stage], self.size.grids[stage]
        groups = self.size.groups_of(channels)
        return nn.ModuleList(StripMLPBlock(channels, grid, groups, drop_path) for _ in range(self.size.depths[stage]))

    def _check_statistics(self, images: Tensor) -> None:
        """Errors: ValueError where a batch norm in training would see one cell, whose deviation is 0."""
        learns = hasattr(self, "norm") and self.norm.training
        if learns and len(images) * (images.shape[-2] // STRIDES[-1]) * (images.shape[-1] // STRIDES[-1]) < 2:
            raise ValueError(
                "expected at least two cells at stride 32 to train Strip-MLP's batch norms, got one image of "
                f"{images.shape[-2]} x {images.shape[-1]} pixels; use more or larger images per batch, or keep the "
                "statistics (model.backbone.norm=frozen of a detector)"
            )

    def _mixed(self, stage: int, blocks: nn.ModuleList, features: Tensor) -> Tensor:
        shape = (features.shape[-2], features.shape[-1])
        crops = OverlappingCrops.of(shape, self.size.grids[stage], self.rounding)
        for block in blocks:
            features = block(features, crops)
        return features


class StripMLPBackbone(nn.Module):
    """Strip-MLP as a pyramid of its stages' maps: raw at strides 4, 8 and 16, after the final batch norm at 32.

    size: a name out of `SIZES`, or a size of one's own. norm: "running" keeps the batch norms' statistics as they are,
    in training too, and trains their scale and shift: what the authors' code meant, and right for one or two images per
    GPU; "batch" lets the statistics move, as their code in effect does, and is needed without pretrained weights.
    drop_path stays on in the training of detectors. rounding: of the crops' plan; it belongs to the weights.
    Stages behind the coarsest of `strides` are not built. Padded cells are not masked inside, as in the authors' code.
    """

    def __init__(
        self,
        size: str | StripMLPSize = "strip_mlp_t",
        strides: Sequence[int] = (8, 16, 32),
        *,
        norm: Literal["running", "batch"] = "running",
        drop_path: float = 0.1,
        rounding: Rounding = "exact",
    ) -> None:
        super().__init__()
        if norm not in ("running", "batch"):
            raise ValueError(f"expected norm 'running' or 'batch', got {norm!r}; change model.backbone.norm")
        if not strides or not set(strides) <= set(STRIDES):
            raise ValueError(f"expected strides out of {STRIDES}, got {tuple(strides)}; change model.backbone.strides")
        size = _named(size) if isinstance(size, str) else size
        self.norm, self.strides = norm, tuple(strides)
        self.indices = [STRIDES.index(stride) for stride in strides]
        self.channels = tuple(size.channels[index] for index in self.indices)
        self.body = StripMLP(size, num_classes=0, drop_path_rate=drop_path, rounding=rounding)
        self.body.prune_intermediate_layers(self.indices)

    def forward(self, images: ImageBatch) -> FeaturePyramid:
        """Maps of the chosen strides; `images` must be normalized. Where a side is no multiple of 32, the last pixels,
        too few for a cell, are not seen.
        """
        maps = self.body.maps(images.pixels, max(self.indices) + 1)
        return FeaturePyramid.of([maps[index] for index in self.indices], images.padding, self.strides)

    def train(self, mode: bool = True) -> StripMLPBackbone:
        """Training mode, but for batch norms whose statistics stay."""
        super().train(mode)
        if self.norm == "running":
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self


def _halved(channels: int, depthwise: bool = False) -> nn.Conv2d:
    return nn.Conv2d(channels, 2 * channels, 2, stride=2, bias=False, groups=channels if depthwise else 1)


def _head(channels: int, num_classes: int) -> nn.Module:
    return nn.Linear(channels, num_classes) if num_classes else nn.Identity()


def _check_size(images: Tensor) -> None:
    height, width = images.shape[-2:]
    if min(height, width) < 32:
        raise ValueError(
            f"expected images of at least 32 x 32 pixels for Strip-MLP, got {height} x {width}; "
            "enlarge them (a classifier's augmentation.image_size), or pad the batch (a detector's "
            "model.preprocessing.pad_multiple=32)"
        )


def _named(name: str) -> StripMLPSize:
    if name not in SIZES:
        raise ValueError(f"expected one of {', '.join(SIZES)}, got {name!r}; change model.backbone.name")
    return SIZES[name]


# What timm wants to know of each name, beside a function of that name.
default_cfgs = generate_default_cfgs(
    {
        name: {
            "input_size": (3, size.trained_px, size.trained_px),
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "num_classes": 1000,
            "pool_size": (size.grids[-1], size.grids[-1]),
            "first_conv": "patch_embed",
            "classifier": "head",
            "url": "",
        }
        for name, size in SIZES.items()
    }
)


def _create(name: str, pretrained: bool, settings: dict[str, Any]) -> nn.Module:
    network: nn.Module = build_model_with_cfg(
        StripMLP,
        name,
        pretrained,
        feature_cfg={"out_indices": (0, 1, 2, 3), "feature_cls": "getter"},
        kwargs_filter=("global_pool",),
        **{"size": SIZES[name], **settings},
    )
    return network


@register_model
def strip_mlp_nano(pretrained: bool = False, **settings: Any) -> nn.Module:
    """16 channels and five blocks at 64 px, for tests and demonstrations."""
    return _create("strip_mlp_nano", pretrained, settings)


@register_model
def strip_mlp_t_light(pretrained: bool = False, **settings: Any) -> nn.Module:
    """The paper's T*: 18 million parameters."""
    return _create("strip_mlp_t_light", pretrained, settings)


@register_model
def strip_mlp_t(pretrained: bool = False, **settings: Any) -> nn.Module:
    """The paper's T: 25 million parameters; Cross-DINO's backbone."""
    return _create("strip_mlp_t", pretrained, settings)


@register_model
def strip_mlp_s(pretrained: bool = False, **settings: Any) -> nn.Module:
    """The paper's S: 43 million parameters."""
    return _create("strip_mlp_s", pretrained, settings)


@register_model
def strip_mlp_b(pretrained: bool = False, **settings: Any) -> nn.Module:
    """The paper's B: 57 million parameters."""
    return _create("strip_mlp_b", pretrained, settings)
