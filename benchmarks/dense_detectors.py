"""RetinaNet and FCOS against torchvision's, from the image to the boxes.

    python benchmarks/dense_detectors.py [--size 800x1333] [--rounds 3] [--quick]

ResNet-50, levels P3 to P7, 80 classes, random weights, one image. torchvision's RetinaNet is built with P6 from C5, as
the paper and ours have it, and gets our weights: how far its logits are from ours is printed. The FCOS pair differs in
the norms of its towers (theirs group norms, ours batch norms that are folded when optimized) and so has other weights.
Scores of random weights lie below the threshold, so that hardly any box reaches the suppression of either side.
--quick: a 256 x 320 px image.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from measuring import Measurement, Recording, parser, recording
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from smidgen import create_model, optimize
from smidgen.structures import ImageBatch

CLASSES, PADDED_TO = 80, 32
RENAMED = {
    "neck.laterals.{}.": "backbone.fpn.inner_blocks.{}.0.",
    "neck.outputs.{}.": "backbone.fpn.layer_blocks.{}.0.",
    "head.class_tower.convolutions.{}.": "head.classification_head.conv.{}.0.",
    "head.box_tower.convolutions.{}.": "head.regression_head.conv.{}.0.",
    "neck.top.0.": "backbone.fpn.extra_blocks.p6.",
    "neck.top.1.": "backbone.fpn.extra_blocks.p7.",
    "head.class_prediction.": "head.classification_head.cls_logits.",
    "head.box_prediction.": "head.regression_head.bbox_reg.",
}


@torch.inference_mode()
def main() -> None:
    options = parser(__doc__, rounds=3, size=("800x1333", "256x320")).parse_args()
    with recording(__file__, options) as record:
        height, width = record.size_hw
        image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
        ours = create_model("retinanet_r50", num_classes=CLASSES).eval()
        theirs = library_retinanet(min(height, width), max(height, width))
        theirs.load_state_dict({_renamed(name): value for name, value in ours.state_dict().items()})
        measured = measure(record, f"retinanet_r50, {options.size}", ours, theirs.eval(), image)
        record.count("ours and torchvision apart", logits=logits_apart(ours, theirs, image))
        ours = create_model("fcos_r50", num_classes=CLASSES).eval()
        theirs = library_fcos(min(height, width), max(height, width)).eval()
        measured = measure(record, f"fcos_r50, {options.size}", ours, theirs, image)
        record.count("boxes found", **{name: _num_boxes(answer) for name, answer in measured.answers.items()})


def measure(record: Recording, name: str, ours: nn.Module, theirs: nn.Module, image: Tensor) -> Measurement:
    variants: dict[str, Callable[[], Any]] = {"torchvision": lambda: theirs([image.float() / 255])}
    models = {"eager": ours, "optimized fp32": optimize(ours), "optimized bf16": optimize(ours, "bf16")}
    variants |= {variant: partial(detect, model, image) for variant, model in models.items()}
    return record.measure(name, variants, against="torchvision", memory=True)


def detect(model: Any, image: Tensor) -> Any:
    """Boxes of an image; batches travel as uint8 and are normalized by the model."""
    return model.detect(ImageBatch.collate([image], PADDED_TO), [tuple(image.shape[1:])])


def library_retinanet(shortest: int, longest: int) -> RetinaNet:
    body = pyramid(LastLevelP6P7(2048, 256))
    return RetinaNet(body, CLASSES, min_size=shortest, max_size=longest, detections_per_img=100)


def library_fcos(shortest: int, longest: int) -> FCOS:
    return FCOS(pyramid(LastLevelP6P7(256, 256)), CLASSES, min_size=shortest, max_size=longest)


def pyramid(coarse_levels: LastLevelP6P7) -> nn.Module:
    levels = {"returned_layers": [2, 3, 4], "extra_blocks": coarse_levels}
    body: nn.Module = resnet_fpn_backbone(backbone_name="resnet50", weights=None, **levels)
    return body


def logits_apart(ours: Any, theirs: Any, image: Tensor) -> float:
    """Largest difference of any class logit at any place."""
    seen: list[Tensor] = []
    hook = theirs.head.register_forward_hook(lambda _, __, answer: seen.append(answer["cls_logits"]))
    theirs([image.float() / 255])
    hook.remove()
    output = ours(ImageBatch.collate([image], PADDED_TO))
    rows = torch.cat([level.per_image(level.logits) for level in output.levels], dim=1)
    return (rows - seen[0]).abs().max().item()


def _renamed(name: str) -> str:
    for ours, theirs in RENAMED.items():
        for index in map(str, range(4)):
            if name.startswith(ours.format(index)):
                return name.replace(ours.format(index), theirs.format(index))
    return name


def _num_boxes(answer: Any) -> int:
    return len(answer[0]["boxes"] if isinstance(answer[0], dict) else answer[0].boxes_xyxy)


if __name__ == "__main__":
    main()
