"""Deformable DETR of the transformers library answers as ours does after conversion, in every layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smidgen.checkpoints import convert, load
from smidgen.structures import ImageBatch

transformers = pytest.importorskip("transformers")

SYSTEMS = {False: "deformable_detr_one_stage", True: "deformable_detr_refine"}
SETTINGS: dict[str, Any] = {"backbone": {"name": "resnet10t"}, "transformer": {"num_heads": 4}}


def library_model(refine: bool) -> nn.Module:
    """A small one, random also where it would start with constants."""
    config = transformers.DeformableDetrConfig(
        use_timm_backbone=True,
        backbone="resnet10t",
        use_pretrained_backbone=False,
        d_model=32,
        encoder_layers=1,
        decoder_layers=3,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        num_queries=7,
        num_labels=5,
        with_box_refine=refine,
    )
    model = transformers.DeformableDetrForObjectDetection(config).eval()
    if refine:
        # The library makes one tensor of all class heads when it builds a model; released files have one per layer.
        model.class_embed = nn.ModuleList(nn.Linear(32, 5) for _ in range(3))
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.ndim < 4 and tensor.is_floating_point():
            tensor.add_(torch.randn(tensor.shape), alpha=0.2)
    return model


def batch(padded: bool) -> ImageBatch:
    """Normalized images, of one size or of two."""
    return ImageBatch.collate([torch.randn(3, *size) for size in ((64, 96), (50, 70) if padded else (64, 96))])


def library_answers(model: Any, images: ImageBatch) -> tuple[Tensor, Tensor]:
    """Logits and boxes of every layer, which the library shows to its loss only."""
    seen: list[Tensor] = []

    def loss(*arguments: Any) -> tuple[None, None, None]:
        seen.extend(arguments[-2:])
        return None, None, None

    model.loss_function = loss
    with torch.no_grad():
        model(images.pixels, pixel_mask=(~images.padding).long(), labels=[])
    return seen[0], seen[1]


def converted(model: nn.Module, refine: bool, file: Path, out: Path) -> nn.Module:
    report = convert(file, SYSTEMS[refine], out, **SETTINGS)
    assert report.source == "transformers"
    return load(out)


def check(library: nn.Module, ours: nn.Module, images: ImageBatch) -> None:
    logits, boxes = library_answers(library, images)
    with torch.no_grad():
        output = ours(images)
    layers = [*output.auxiliary, output.final]
    assert logits.std() > 0.1 and (boxes[0] - boxes[-1]).abs().max() > 1e-3
    torch.testing.assert_close(torch.stack([layer.logits for layer in layers]), logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.stack([layer.boxes_cxcywh for layer in layers]), boxes, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("refine", [False, True], ids=["one stage", "refine"])
def test_same_answers_with_and_without_padding(refine: bool, tmp_path: Path) -> None:
    library = library_model(refine)
    torch.save(library.state_dict(), tmp_path / "weights.bin")
    ours = converted(library, refine, tmp_path / "weights.bin", tmp_path / "ours")
    for padded in (False, True):
        check(library, ours, batch(padded))


@pytest.mark.parametrize("refine", [False, True], ids=["one stage", "refine"])
def test_same_answers_from_the_file_that_the_library_writes(refine: bool, tmp_path: Path) -> None:
    """There, tied heads stand once, and many names are those of earlier versions."""
    library = library_model(refine)
    if refine:
        library.class_embed = nn.ModuleList([library.class_embed[0]] * 3)
    library.save_pretrained(tmp_path / "theirs")
    ours = converted(library, refine, tmp_path / "theirs" / "model.safetensors", tmp_path / "ours")
    check(library, ours, batch(padded=True))


def test_a_model_without_refinement_does_not_pass_for_one_with_it(tmp_path: Path) -> None:
    torch.save(library_model(refine=False).state_dict(), tmp_path / "weights.bin")
    with pytest.raises(ValueError, match="all are equal"):
        convert(tmp_path / "weights.bin", SYSTEMS[True], tmp_path / "ours", **SETTINGS)


def test_a_model_with_refinement_does_not_pass_for_one_without(tmp_path: Path) -> None:
    torch.save(library_model(refine=True).state_dict(), tmp_path / "weights.bin")
    with pytest.raises(ValueError, match="looks like deformable_detr_refine"):
        convert(tmp_path / "weights.bin", SYSTEMS[False], tmp_path / "ours", **SETTINGS)
