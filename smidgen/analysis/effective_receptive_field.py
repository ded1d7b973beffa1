"""How far a feature really looks: the gradient of the center cell with respect to every pixel.

Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks", NeurIPS 2016; the
protocol is RepLKNet's (Ding et al., CVPR 2022) and VMamba's, as in Cross-DINO, figure 11: the sum over channels of the
ReLU of the center cell, its gradient by the input, ReLU, summed over colors and images, log10(1 + x), divided by the
largest. The papers use 50 images of 1024 x 1024; show a trained network beside a random one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.analysis.panels import Picture, how_many
from smidgen.evaluation.model_state import device_of
from smidgen.structures import FeaturePyramid, ImageBatch

SIDE_PX = 1024
SHARES = (0.2, 0.3, 0.5, 0.99)  # RepLKNet, table 8
WINDOW = 3  # times the widest square that holds half of a field: what the panels show
HEAT = "inferno"

Features = Callable[[ImageBatch], FeaturePyramid]


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """Contribution of each pixel to the center cell of one level, summed over images; those of several batches add up.

    stride: of the level. center: row and column of the pixel in the middle of the center cell. contribution: H x W,
    non-negative.
    """

    stride: int
    center: tuple[int, int]
    images: int
    contribution: npt.NDArray[np.float64]

    @property
    def scaled(self) -> npt.NDArray[np.float64]:
        """log10(1 + contribution) divided by its largest: what is drawn, in [0, 1]."""
        logarithm = np.log10(1 + self.contribution)
        scaled: npt.NDArray[np.float64] = logarithm / max(float(logarithm.max()), 1e-300)
        return scaled

    def side_px(self, share: float) -> int:
        """Side of the smallest square around `center` that holds `share` of `scaled`; 0 where nothing contributes."""
        rings = np.cumsum(np.bincount(self._ring().ravel(), self.scaled.ravel()))
        if not rings[-1]:
            return 0
        ring = int(np.searchsorted(rings, share * rings[-1] * (1 - 1e-12)))
        longest: int = max(self.contribution.shape)
        return min(2 * ring + 1, longest)

    def _ring(self) -> npt.NDArray[np.int64]:
        """Chessboard distance of every pixel from the center."""
        rows, columns = (np.arange(size) - middle for size, middle in zip(self.scaled.shape, self.center, strict=True))
        ring: npt.NDArray[np.int64] = np.maximum(np.abs(rows)[:, None], np.abs(columns))
        return ring

    def __add__(self, other: ReceptiveField) -> ReceptiveField:
        if self.stride != other.stride or self.contribution.shape != other.contribution.shape:
            raise ValueError(
                "expected fields of one level over images of one size to add, got strides "
                f"{self.stride} and {other.stride}, sizes {self.contribution.shape} and {other.contribution.shape}"
            )
        return replace(self, images=self.images + other.images, contribution=self.contribution + other.contribution)

    def to_json(self) -> dict[str, Any]:
        """Plain values: the side of the square that holds each share, in pixels and as part of the image's area."""
        height, width = self.contribution.shape
        sides = {share: self.side_px(share) for share in SHARES}
        return {
            "stride": self.stride,
            "images": self.images,
            "size_hw": [height, width],
            "squares": [
                {"share": share, "side_px": side, "area": min(side, height) * min(side, width) / (height * width)}
                for share, side in sides.items()
            ],
        }


def features_of(model: nn.Module) -> Features:
    """Backbone and neck of a DETR as one function of normalized images. The group norms of the neck (and of backbones
    that have them) let every pixel reach every cell a little.
    """

    def features(images: ImageBatch) -> FeaturePyramid:
        pyramid: FeaturePyramid = model.neck(model.backbone(images))  # type: ignore[operator]
        return pyramid

    return features


def effective_receptive_field(features: Features, images: ImageBatch, level: int = -1) -> ReceptiveField:
    """Field of the center cell of one level of `features(images)`, over a batch of normalized images without padding.

    Runs where the images are, with gradient whatever the caller's mode; parameters get none. Inside inference mode the
    images must have been made outside. Raises ValueError for uint8 pixels and for padded images (see `squares`).
    """
    if not images.pixels.is_floating_point():
        raise ValueError("expected normalized images, got uint8 pixels; call images.normalized(model.preprocessing)")
    if any(size != tuple(images.pixels.shape[2:]) for size in images.sizes):
        raise ValueError("expected images without padding, whose center is the canvas's; make them with `squares`")
    with torch.inference_mode(False), torch.enable_grad():
        pixels = images.pixels.detach().clone().requires_grad_()
        pyramid = features(replace(images, pixels=pixels))
        rows, columns = pyramid.shapes[level]
        center = F.relu(pyramid.levels[level][:, :, rows // 2, columns // 2]).sum()
        (gradient,) = torch.autograd.grad(center, pixels)
    contribution = F.relu(gradient.double()).sum(dim=(0, 1))
    height, width = contribution.shape
    middle = _middle(rows, height), _middle(columns, width)
    return ReceptiveField(pyramid.strides[level], middle, len(images), contribution.cpu().numpy())


def mean_receptive_field(
    model: nn.Module, batches: Iterable[ImageBatch], side_px: int = SIDE_PX, level: int = -1
) -> ReceptiveField:
    """Field of a DETR's backbone and neck over batches with uint8 pixels, each image resized to a square.

    Raises ValueError where there is no batch.
    """
    total: ReceptiveField | None = None
    for batch in batches:
        images = squares(batch, side_px).to(device_of(model)).normalized(model.preprocessing)  # type: ignore[arg-type]
        field = effective_receptive_field(features_of(model), images, level)
        total = field if total is None else total + field
    if total is None:
        raise ValueError("expected at least one batch of images to measure a receptive field, got none")
    return total


def squares(images: ImageBatch, side_px: int = SIDE_PX) -> ImageBatch:
    """The images without their padding, each resized to side_px x side_px (aspect is lost, as in the protocol)."""
    cut = [images.pixels[index : index + 1, :, :rows, :columns] for index, (rows, columns) in enumerate(images.sizes)]
    return ImageBatch.collate([_resized(image, side_px)[0] for image in cut])


def receptive_field_picture(fields: Mapping[str, ReceptiveField]) -> Picture:
    """One panel per field, all cut to one window, with the squares that hold half and nearly all of it.

    data: by name, `ReceptiveField.to_json()`.
    """
    columns = min(len(fields), 3)
    rows = -(-len(fields) // columns)
    figure = Figure(figsize=(4.4 * columns + 0.9, 4.7 * rows + 0.6), layout="constrained")
    images = how_many(max(field.images for field in fields.values()), "image")
    figure.suptitle(f"Effective receptive field of the center cell, over {images}", fontsize=13)
    panels = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    window = max(WINDOW * field.side_px(0.5) for field in fields.values())
    for axes, (name, field) in zip(panels, fields.items(), strict=False):
        heat = _draw(axes, name, field, window)
    for axes in panels[len(fields) :]:
        axes.set_axis_off()
    figure.colorbar(heat, ax=panels, shrink=0.7, label="contribution, log10(1 + x), largest = 1")
    return Picture(figure, {name: field.to_json() for name, field in fields.items()})


def _middle(cells: int, pixels: int) -> int:
    """The pixel in the middle of the center cell, the upper left of four."""
    return int((cells // 2 + 0.5) * pixels / cells - 0.5)


def _resized(pixels: Tensor, side_px: int) -> Tensor:
    size = (side_px, side_px)
    resized = F.interpolate(pixels.float(), size=size, mode="bilinear", align_corners=False, antialias=True)
    return resized.round().clamp(0, 255).to(pixels.dtype)


def _draw(axes: Axes, name: str, field: ReceptiveField, window: int) -> Any:
    height, width = field.contribution.shape
    row, column = (middle + 0.5 for middle in field.center)
    heat = axes.imshow(field.scaled, cmap=HEAT, vmin=0, vmax=1, extent=(0, width, height, 0))
    words = []
    for share, style in ((0.5, "-"), (0.99, "--")):
        side = field.side_px(share)
        axes.add_patch(_square((column - side / 2, row - side / 2), side, style))
        words.append(f"{share:.0%} within {side} px")
    half = max(window, 16) / 2
    axes.set(xlim=(max(0, column - half), min(width, column + half)))
    axes.set(ylim=(min(height, row + half), max(0, row - half)))
    axes.set_title(f"{name}, stride {field.stride} px\n{', '.join(words)}", fontsize=10)
    return heat


def _square(corner: tuple[float, float], side: int, style: str) -> Rectangle:
    return Rectangle(corner, side, side, fill=False, edgecolor="#56B4E9", linewidth=1.4, linestyle=style)
