from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smidgen.evaluation import flop_count, profile
from smidgen.evaluation.flop_count import parts_of
from smidgen.models import create_model
from smidgen.nn import deformable_attention
from smidgen.nn.deformable_attention import DeformableAttention, sampling_macs
from smidgen.structures import Detections, ImageBatch
from smidgen.tokens.object_counting import LightCounter
from smidgen.tokens.staged_encoder import StagedEncoder


class Detector(nn.Module):
    """A convolution, then a linear layer and an attention per cell: everything can be counted by hand."""

    name = "by_hand"

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 16, 4, stride=4, bias=False)
        self.decoder = nn.MultiheadAttention(16, 2, bias=False, batch_first=True)
        self.head = nn.Linear(16, 5)
        self.head.weight.requires_grad_(False)
        self.table = nn.Embedding(10, 16)

    def forward(self, images: ImageBatch, targets: object = None) -> Tensor:
        cells = self.backbone(images.pixels).flatten(2).transpose(1, 2) + self.table.weight[:1]
        return self.head(self.decoder(cells, cells, cells, need_weights=False)[0])

    def detect(self, images: ImageBatch, original_hw: Sequence[tuple[int, int]]) -> list[Detections]:
        self.calls = getattr(self, "calls", 0) + 1
        self(images)
        return []


class NeedsValues(Detector):
    """Refuses tensors that have shapes only."""

    def forward(self, images: ImageBatch, targets: object = None) -> Tensor:
        assert images.pixels.sum().item() > 0
        return super().forward(images)


class Sampler(nn.Module):
    """One deformable attention whose queries are as many as there are values."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.attention = DeformableAttention(32, 4, 2, 3, method=method)

    def forward(self, images: ImageBatch, targets: object = None) -> Tensor:
        tokens = images.pixels.new_zeros(1, 80, 32)
        return self.attention(tokens, images.pixels.new_full((1, 80, 2, 2), 0.5), tokens, [(8, 8), (4, 4)])


@pytest.mark.parametrize("kind", [Detector, NeedsValues])
def test_counts_by_hand(kind: type[Detector]):
    found = profile(kind(), size_hw=(32, 48), latency=False)
    cells = 8 * 12
    backbone, head = cells * 16 * 48, cells * 16 * 5
    decoder = cells * 16 * 16 * 4 + 2 * cells * cells * 16  # four projections; scores and their products with values
    macs = {name: round(stage.gmacs * 1e9) for name, stage in found.stages.items()}
    assert macs == {"backbone": backbone, "decoder": decoder, "head": head, "table": 0}
    assert round(found.gmacs * 1e9) == backbone + decoder + head
    assert found.gmacs_without_sampling == found.gmacs and found.gflops == 2 * found.gmacs
    assert sum(stage.share for stage in found.stages.values()) == pytest.approx(1)
    assert found.parameters == 768 + 1024 + 85 + 160 and found.trainable_parameters == found.parameters - 80
    assert found.latency_ms is None


@pytest.mark.parametrize("method", ["grid_sample", "embedding_bag", "triton"])
def test_all_ways_of_sampling_cost_the_same_and_stand_apart(monkeypatch: pytest.MonkeyPatch, method: str):
    # On shapes alone the kernel needs neither Triton nor a GPU.
    monkeypatch.setattr(deformable_attention, "explain_missing", lambda device: None)
    found = profile(Sampler(method), size_hw=(8, 8), latency=False)
    linears = 80 * 32 * (32 + 32 + 4 * 2 * 3 * 3)
    assert round(found.gmacs_without_sampling * 1e9) == linears
    assert round((found.gmacs - found.gmacs_without_sampling) * 1e9) == sampling_macs(80, 4, 2, 3, 8)


def test_the_model_is_left_as_it_was():
    model = Detector().train()
    model.head.eval()
    profile(model, size_hw=(32, 32), latency=False)
    assert model.training and model.backbone.training and not model.head.training
    assert model.backbone.weight.requires_grad and not model.head.weight.requires_grad
    assert type(model.backbone.weight.data) is Tensor


def test_latency_is_the_median_of_warm_runs_of_detect():
    model = Detector()
    found = profile(model, size_hw=(32, 32), runs=3)
    assert found.latency_ms is not None and found.latency_ms > 0
    assert model.calls == 4
    profile(model, size_hw=(32, 32), runs=100, seconds=0.0)
    assert model.calls == 6


def test_json_keys_and_table():
    found = profile(Detector(), size_hw=(32, 32), latency=False)
    document = json.loads(json.dumps(found.to_json()))
    counts = ["parameters", "trainable_parameters", "gmacs", "gmacs_without_sampling", "gflops"]
    keys = ["model", *counts, "latency_ms", "stages"]
    assert list(document)[: len(keys)] == keys and document["model"] == "by_hand"
    assert "by_hand on one image of 32 x 32" in found.table() and "backbone" in found.table()


def small(name: str, **settings: Any) -> nn.Module:
    sizes = {"width": 32, "num_heads": 2, "feed_forward": 32, "encoder_layers": 1, "decoder_layers": 1}
    return create_model(name, num_classes=2, transformer=sizes, **settings)


@pytest.mark.parametrize(
    ("name", "idea", "settings"),
    [
        ("dq_detr_nano", "CountingEnhancement", {}),
        ("salience_detr_nano", "CrossLevelFusion", {"layer_ratios": [1.0], "num_queries": 9}),
    ],
)
def test_ideas_after_the_encoder_have_rows_of_their_own(name: str, idea: str, settings: dict[str, Any]):
    model = small(name, **settings)
    found = profile(model, size_hw=(64, 96), latency=False)
    own = found.stages[f"encoder: {idea}"]
    assert own.parameters == sum(each.numel() for each in model.encoder.stages[0].parameters())
    assert own.gmacs > 0 and found.stages["encoder"].gmacs > 0
    assert sum(stage.parameters for stage in found.stages.values()) == found.parameters
    assert sum(stage.gmacs for stage in found.stages.values()) == pytest.approx(found.gmacs)
    assert sum(stage.share for stage in found.stages.values()) == pytest.approx(1)


def test_two_ideas_of_one_kind_are_told_apart():
    model = nn.Module()
    model.encoder = StagedEncoder(nn.Identity(), [nn.Linear(1, 1), nn.Linear(1, 1)])
    assert list(parts_of(model)) == ["encoder", "encoder: Linear", "encoder: Linear (stage 2)"]


def test_the_queries_of_the_timed_image_are_said():
    fixed = profile(small("dino_nano", num_queries=7), size_hw=(64, 64), runs=1)
    assert fixed.queries == fixed.to_json()["queries"] == 7
    assert "with 7 queries" in fixed.table()
    counting = small("dq_detr_nano", budgets=[3, 3, 3, 9])
    with torch.no_grad():
        for counter in [each for each in counting.modules() if isinstance(each, LightCounter)]:
            counter.classifier.bias.copy_(torch.tensor([99.0, 0.0, 0.0, 0.0]))
    assert profile(counting, size_hw=(64, 64), runs=1).queries == 3, "rows that pad the batch are no queries"
    assert profile(Detector(), size_hw=(32, 32), runs=1).queries is None
    assert profile(counting, size_hw=(64, 64), latency=False).queries is None


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="at least 1 x 1"):
        profile(Detector(), size_hw=(0, 32))


def test_shapes_alone_and_a_real_run_count_the_same(monkeypatch: pytest.MonkeyPatch):
    model = create_model("dino_nano", num_classes=3)
    on_shapes = profile(model, size_hw=(96, 128), latency=False)
    monkeypatch.setattr(flop_count, "FakeTensorMode", None)
    for_real = profile(model, size_hw=(96, 128), latency=False)
    assert on_shapes == for_real
    assert 0 < on_shapes.gmacs_without_sampling < on_shapes.gmacs
    assert {"backbone", "encoder", "decoder"} <= set(on_shapes.stages)


@pytest.mark.parametrize(
    ("name", "size_hw", "parameters", "gmacs"),
    [
        ("dino_r50", (800, 800), 46_893_182, 178.4),
        pytest.param("dino_5scale_r50", (800, 800), 47_255_806, 520.3, marks=pytest.mark.slow),
        ("dino_plus_r50", (800, 1344), 47_672_417, 290.57),
    ],
)
def test_published_figures(name: str, size_hw: tuple[int, int], parameters: int, gmacs: float):
    found = profile(create_model(name, num_classes=91), size_hw=size_hw, latency=False)
    assert found.parameters == parameters
    assert found.gmacs_without_sampling == pytest.approx(gmacs, rel=0.01)
