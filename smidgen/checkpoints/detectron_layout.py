"""Names of QueryDet's official checkpoints (ChenhongyiYang/QueryDet-PyTorch), its RetinaNet's and detectron2's.

The weights are Caffe's: images are BGR in 0..255 of which only a mean is taken, and bottlenecks have their stride in
the first 1x1 convolution. A converted model's configuration says both. Files that start from torchvision's weights
instead need `--set backbone.options.stride_in_1x1=false` and their `preprocessing`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from smidgen.checkpoints.renaming import Layout

# Images here are scaled to 0..1 before mean and deviation are applied; a deviation of 1 in 0..255 is 1 / 255.
CAFFE_PREPROCESSING: dict[str, Any] = {
    "channel_order": "bgr",
    "mean": (103.530 / 255, 116.280 / 255, 123.675 / 255),
    "std": (1 / 255, 1 / 255, 1 / 255),
}

_BACKBONE = (
    (r"^backbone\.body\.conv1\.", "backbone.bottom_up.stem.conv1."),
    (r"^backbone\.body\.bn1\.", "backbone.bottom_up.stem.conv1.norm."),
    *((rf"^backbone\.body\.layer{stage - 1}\.", f"backbone.bottom_up.res{stage}.") for stage in range(2, 6)),
    (r"^(backbone\.bottom_up\.res\d\.\d+\.)bn(\d)\.", r"\1conv\2.norm."),
    (r"^(backbone\.bottom_up\.res\d\.\d+\.)downsample\.0\.", r"\1shortcut."),
    (r"^(backbone\.bottom_up\.res\d\.\d+\.)downsample\.1\.", r"\1shortcut.norm."),
)
_HEADS = (
    (r"^head\.class_tower\.convolutions\.(\d+)\.", r"det_head.cls_layer_\1."),
    (r"^head\.box_tower\.convolutions\.(\d+)\.", r"det_head.bbox_layer_\1."),
    (r"^head\.class_prediction\.", "det_head.cls_score."),
    (r"^head\.box_prediction\.", "det_head.bbox_pred."),
    (r"^query_head\.tower\.convolutions\.(\d+)\.", r"query_head.layer_\1."),
    (r"^query_head\.prediction\.", "query_head.pred_net."),
)


def _pyramid(finest: int) -> tuple[tuple[str, str], ...]:
    """Names of the pyramid whose finest level is P`finest`; detectron2 numbers maps by level, we count them."""
    merged = [(index, finest + index) for index in range(6 - finest)]
    return (
        *((rf"^neck\.laterals\.{index}\.", f"backbone.fpn_lateral{level}.") for index, level in merged),
        *((rf"^neck\.outputs\.{index}\.", f"backbone.fpn_output{level}.") for index, level in merged),
        (r"^neck\.top\.0\.", "backbone.top_block.p6."),
        (r"^neck\.top\.1\.", "backbone.top_block.p7."),
    )


# detectron2's own RetinaNet has its towers in one sequence of convolutions and activations.
_OWN_RETINANET = (
    *(
        (rf"^head\.{tower}_subnet\.{2 * layer}\.", f"det_head.{tower}_layer_{layer}.")
        for tower in ("cls", "bbox")
        for layer in range(8)
    ),
    (r"^head\.(cls_score|bbox_pred)\.", r"det_head.\1."),
)

RETINANET = Layout(
    rules=(*_BACKBONE, *_pyramid(3), *_HEADS),
    source="QueryDet's RetinaNet or detectron2",
    has=("backbone.bottom_up.stem.", "backbone.fpn_lateral3.", "det_head.cls_score."),
    lacks=("backbone.fpn_lateral2.", "query_head."),
    spellings=_OWN_RETINANET,
    # Anchors, the mean of pixels, and whatever else a version keeps beside its three networks.
    ignored=(r"^(?!backbone\.|det_head\.|query_head\.|head\.)", r"num_batches_tracked$"),
    # Weights of a time when detectron2 had folded the statistics away, which it still reads as mean 0, variance 1.
    optional=(r"num_batches_tracked$", r"\.norm\.running_(mean|var)$"),
    implied={"preprocessing": CAFFE_PREPROCESSING, "backbone": {"options": {"stride_in_1x1": True}}},
)

RETINANET_FROM_P2 = replace(
    RETINANET,
    source="the same from P2",
    rules=(*_BACKBONE, *_pyramid(2), *_HEADS),
    has=(*RETINANET.has, "backbone.fpn_lateral2."),
    lacks=("query_head.",),
)

QUERY_DET = replace(
    RETINANET_FROM_P2, source="QueryDet's original code", has=(*RETINANET_FROM_P2.has, "query_head."), lacks=()
)
