"""An optimized detector answers as the one it was made from, which it leaves alone, and does nothing but detect."""

from __future__ import annotations

import logging
import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from smidgen.checkpoints import save
from smidgen.inference import OptimizedDetector, optimize
from smidgen.inference import optimization as module
from smidgen.inference.archives.weights_fingerprint import weights_fingerprint
from smidgen.inference.bfloat16 import warn_where_slow
from smidgen.inference.optimization import Optimization
from smidgen.inference.shape_buckets import in_bucket
from smidgen.models import create_model
from smidgen.nn.folded_batch_norm import BATCH_NORMS
from smidgen.nn.merged_batch_norm import MergedBatchNorm
from smidgen.nn.valid_cells import ValidBatchNorm
from smidgen.structures import DenseOutput, DetectorOutput, ImageBatch, ObjectSizes
from smidgen.tokens.cross_level_fusion import RepVGGBlock, TwoBranches

TRANSFORMER = {"width": 32, "num_heads": 2, "feed_forward": 32, "encoder_layers": 1, "decoder_layers": 2}
FROZEN = {"name": "resnet10t", "norm": "frozen", "options": {}}
FAMILIES: dict[str, dict[str, Any]] = {
    "deformable_detr_refine_nano": {"num_queries": 9, "backbone": FROZEN, "transformer": TRANSFORMER},
    "salience_detr_nano": {"num_queries": 9},
    "cross_dino_nano": {"num_queries": 9},
    "query_det_fcos_nano": {},
    "faster_rcnn_nano": {"backbone": FROZEN},
}


def detector(name: str) -> Any:
    """A small model, random also where it would start with constants."""
    model = create_model(name, num_classes=3, **FAMILIES[name]).eval()
    model.object_sizes = ObjectSizes(count=7, median_px=8.0, percentile_99_px=31.5, largest_px=40.0)
    for part in model.modules():
        if isinstance(part, (*BATCH_NORMS, ValidBatchNorm, MergedBatchNorm)):
            part.running_mean.normal_(std=0.1)
            part.running_var.uniform_(0.5, 1.5)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point() and tensor.ndim < 3:
            tensor += 0.02 * torch.rand_like(tensor)
    return model


def batch() -> ImageBatch:
    return ImageBatch.collate([torch.randint(0, 256, (3, *hw), dtype=torch.uint8) for hw in ((64, 96), (50, 70))], 32)


def answers(output: DetectorOutput | DenseOutput) -> list[Tensor]:
    if isinstance(output, DetectorOutput):
        return [output.final.logits, output.final.boxes_cxcywh]
    return [values for level in output.levels for values in (level.logits, level.regression)]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return detector(request.param)


@torch.inference_mode()
def test_float32_answers_are_the_same(family: Any) -> None:
    images, fast = batch(), optimize(family)
    for expected, found in zip(answers(family(images)), answers(fast(images)), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    hw = [(64, 96), (50, 70)]
    for before, after in zip(family.detect(images, hw), fast.detect(images, hw), strict=True):
        torch.testing.assert_close(after.scores, before.scores, atol=1e-4, rtol=0)
    assert (fast.name, fast.config, fast.classes) == (family.name, family.config, family.classes)
    assert (fast.preprocessing, fast.object_sizes) == (family.preprocessing, family.object_sizes)


def test_no_foldable_norm_is_left(family: Any) -> None:
    left = [part for part in optimize(family).modules() if isinstance(part, (*BATCH_NORMS, MergedBatchNorm))]
    before_their_convolutions = {"cross_dino_nano": True}.get(family.name, False)
    assert bool(left) <= before_their_convolutions
    blocks = [part for part in optimize(family).modules() if isinstance(part, RepVGGBlock)]
    assert not any(isinstance(block.branches, TwoBranches) for block in blocks)


def test_the_original_is_untouched_and_shares_what_did_not_change(family: Any) -> None:
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in family.state_dict().items()}
    gradients = [parameter.requires_grad for parameter in family.parameters()]
    for dtype in ("fp32", "bf16"):
        optimize(family, dtype).to(torch.float64)
    for name, tensor in family.state_dict().items():
        assert tensor.data_ptr() == before[name][0] and torch.equal(tensor, before[name][1])
    assert gradients == [parameter.requires_grad for parameter in family.parameters()]
    plain = [parameter for parameter in optimize(family).parameters() if not parameter.is_mkldnn]
    assert {each.data_ptr() for each in plain} & {each.data_ptr() for each in family.parameters()}


@torch.inference_mode()
def test_bfloat16_answers_are_near_and_in_float32(family: Any) -> None:
    images = batch()
    found = answers(optimize(family, "bf16")(images))
    assert all(values.dtype == torch.float32 and values.isfinite().all() for values in found)
    if family.name == "deformable_detr_refine_nano":  # its queries start at the same places
        logits, boxes = answers(family(images))
        assert 0 < (found[0] - logits).abs().max() < 0.1
        assert (found[1] - boxes).abs().max() < 0.03


@torch.no_grad()
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_copies_and_pickles_answer_the_same(family: Any, dtype: Literal["fp32", "bf16"]) -> None:
    fast, images = optimize(family, dtype), batch()
    for copy in (deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        for expected, found in zip(answers(fast(images)), answers(copy(images)), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_autocast_around_an_optimized_detector_does_no_harm(family: Any) -> None:
    fast = optimize(family)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = answers(fast(batch()))
    assert all(values.isfinite().all() for values in found)


def test_fingerprint_and_size_see_every_weight(family: Any) -> None:
    """An archive goes on only with the model that it was begun with."""
    fast, other = optimize(family), deepcopy(family)
    for layer in (part for part in other.modules() if type(part) is nn.Linear):
        layer.weight.data *= 2
    assert weights_fingerprint(fast) == weights_fingerprint(optimize(family))
    if any(type(part) is nn.Linear for part in family.modules()):
        assert weights_fingerprint(fast) != weights_fingerprint(optimize(other))
        linear = sum(part.weight.numel() for part in family.modules() if type(part) is nn.Linear)
        assert sum(parameter.numel() for parameter in fast.parameters()) > linear


@torch.inference_mode()
def test_maps_are_channels_last_but_for_group_norms(family: Any) -> None:
    """Cells are rows of memory, with no copy back; a group norm of such maps would lose digits."""
    fast, layouts = optimize(family).detector, []
    for norm in (part for part in fast.modules() if isinstance(part, nn.GroupNorm)):
        norm.register_forward_pre_hook(lambda _, inputs: layouts.append(inputs[0].is_contiguous()))
    levels = fast.neck(fast.backbone(batch().normalized(family.preprocessing))).levels
    assert all(layouts)
    if family.name == "faster_rcnn_nano":
        assert not layouts and all(level.flatten(2).transpose(1, 2).is_contiguous() for level in levels)


@torch.inference_mode()
def test_a_backbone_with_group_norms_pools_channels_last() -> None:
    fast, layouts = optimize(detector("salience_detr_nano")).detector, []
    for pool in (part for part in fast.backbone.modules() if isinstance(part, nn.MaxPool2d)):
        pool.register_forward_pre_hook(
            lambda _, inputs: layouts.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
        )
        pool.register_forward_hook(lambda _, __, answer: layouts.append(answer.is_contiguous()))
    fast.backbone(batch().normalized(fast.preprocessing))
    assert layouts and all(layouts)


@torch.inference_mode()
def test_even_ground_keeps_its_digits() -> None:
    family = detector("salience_detr_nano")
    images = ImageBatch.collate([torch.full((3, 64, 96), 255, dtype=torch.uint8)])
    images.pixels[..., 30:34, 40:42] = 0
    before, after = (
        each.neck(each.backbone(images.normalized(each.preprocessing))) for each in (family, optimize(family).detector)
    )
    for expected, found in zip(before.levels, after.levels, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.fixture
def model() -> Any:
    return detector("deformable_detr_refine_nano")


def test_what_learns_is_refused(model: Any) -> None:
    with pytest.raises(ValueError, match=r"call model.eval\(\) first"):
        optimize(model.train())
    model.eval().decoder.train()
    with pytest.raises(ValueError, match="evaluation mode"):
        optimize(model)
    fast = optimize(model.eval())
    assert fast.eval() is fast and not any(part.training for part in fast.modules())
    with pytest.raises(ValueError, match="train the model that it was made from"):
        fast.train()
    with pytest.raises(ValueError, match="keep the original"):
        optimize(fast)


def test_it_is_not_saved_by_mistake(model: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="save the model that it was made from"):
        save(optimize(model), tmp_path / "checkpoint")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_other_settings_are_named(model: Any) -> None:
    with pytest.raises(ValueError, match="without preprocessing, backbone"):
        optimize(nn.Linear(1, 1).eval())
    with pytest.raises(ValueError, match="'fp16'"):
        optimize(model, "fp16")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="bucket_px=0"):
        optimize(model, bucket_px=0)


def test_slow_bfloat16_is_told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    for fast in (True, False):
        monkeypatch.setattr("smidgen.inference.bfloat16.bfloat16_is_fast", lambda _, fast=fast: fast)
        with caplog.at_level(logging.WARNING):
            warn_where_slow(torch.device("cpu"))
        assert bool(caplog.messages) != fast


def test_a_bucket_is_padding_right_and_below() -> None:
    images = batch()
    larger = in_bucket(images, 40)
    assert larger.pixels.shape[-2:] == (80, 120) and larger.sizes == images.sizes
    assert torch.equal(larger.pixels[..., :64, :96], images.pixels) and larger.padding[:, 64:].all()
    assert torch.equal(larger.padding[:, :64, :96], images.padding)
    assert in_bucket(images, 32) is images


@pytest.mark.filterwarnings("ignore:Dynamo does not know:UserWarning")  # the random samples of the tests' shape checks
@torch.inference_mode()
def test_alike_sizes_are_compiled_once(model: nn.Module) -> None:
    compiled: list[Any] = []

    def backend(graph: Any, example: Any) -> Any:
        compiled.append(graph)
        return graph

    fast = optimize(model, compile=backend)
    assert isinstance(fast, OptimizedDetector)
    assert fast.optimization == Optimization("fp32", "backend", module.COMPILED_BUCKET_PX)
    images = [ImageBatch.collate([torch.randint(0, 256, (3, *hw), dtype=torch.uint8)]) for hw in ((60, 50), (64, 33))]
    found = fast(images[0])
    graphs = len(compiled)
    assert graphs
    fast(images[1])
    assert len(compiled) == graphs
    expected = model(in_bucket(images[0], 64))
    torch.testing.assert_close(found.final.logits, expected.final.logits, atol=1e-4, rtol=0)
