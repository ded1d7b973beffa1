"""What a comparison must find: sizes written into a file, answers for one image only, a runtime that rounds unasked."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from export_cases import make_bundle

from smidgen.export import sessions
from smidgen.export.bundle import Canvas
from smidgen.export.bundle_detector import BundleDetector, on_canvas
from smidgen.export.comparison import Tolerance
from smidgen.export.verification import cases, verify
from smidgen.structures import Detections, ImageBatch

EXAMPLE_HW = (64, 96)
PICTURES = [torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))]


class BrightestRow:
    """Detects one object, a box around the middle of the image as high as the canvas is wide, in its pixels."""

    def detect(self, images: ImageBatch, original_hw: Sequence[tuple[int, int]]) -> list[Detections]:
        width = images.pixels.shape[3]
        return [
            Detections(
                torch.tensor([[0.0, 0.0, 10.0 / width * hw[1], 8.0]]), torch.tensor([0.9]), torch.tensor([0]), hw
            )
            for hw in original_hw
        ]


def session(width: int | None = None, best: float = 0.9, only_first: bool = False) -> sessions.Session:
    """The same as a file. width: written into it at the export; None = that of the canvas."""

    def run(pixels: np.ndarray, sizes_hw: np.ndarray) -> tuple[np.ndarray, ...]:
        batch, right = len(pixels), 10.0 / (width or pixels.shape[3])
        boxes = np.array([[[0.0, 0.0, right, 8.0 / height]] for height, _ in sizes_hw], dtype=np.float32)
        valid = np.array([[image == 0 or not only_first] for image in range(batch)])
        scores = np.full((batch, 1), best, dtype=np.float32)
        return boxes, scores, np.zeros((batch, 1), dtype=np.int64), valid

    return run


def verified(run: sessions.Session, dynamic_size: bool = True) -> bool:
    detector = BundleDetector(make_bundle(fixed_hw=None if dynamic_size else EXAMPLE_HW), run)
    tried = cases(EXAMPLE_HW, 1, dynamic_size)
    return verify(BrightestRow(), detector, tried, PICTURES, Tolerance())[1]


@pytest.mark.parametrize("dynamic_size", [True, False])
def test_the_same_detections_pass(dynamic_size: bool) -> None:
    assert verified(session(), dynamic_size)


def test_a_size_written_into_the_file_is_found() -> None:
    """What `torch.tensor([w, h])` in a model does: right at the example's size, wrong at every other."""
    assert not verified(session(width=EXAMPLE_HW[1]))
    assert verified(session(width=EXAMPLE_HW[1]), dynamic_size=False)


def test_a_file_for_one_image_is_found() -> None:
    assert not verified(session(only_first=True))


def test_rounded_scores_are_found() -> None:
    assert not verified(session(best=float(torch.tensor(0.9).bfloat16())))


def test_openvino_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a processor with AMX it would take bfloat16 unasked."""
    asked: dict[str, Any] = {}
    fake = SimpleNamespace(compile_model=lambda file, device, settings: asked.update(settings))
    monkeypatch.setattr(sessions, "required", lambda package, extra: fake)
    sessions.open_session("model.xml", "openvino")  # type: ignore[arg-type]
    assert asked["INFERENCE_PRECISION_HINT"] == "f32"


def test_small_images_get_the_least_canvas_and_large_ones_are_shrunk_into_a_fixed_one() -> None:
    images = ImageBatch.collate([torch.ones(3, 20, 90, dtype=torch.uint8), torch.ones(3, 30, 40, dtype=torch.uint8)])
    padded = on_canvas(images, Canvas(least_hw=(64, 64)))
    assert (padded.pixels.shape[2:], padded.sizes) == ((64, 90), images.sizes)
    fixed = on_canvas(images, Canvas(least_hw=(64, 64), fixed_hw=(64, 60)))
    assert (fixed.pixels.shape[2:], fixed.sizes) == ((64, 60), ((13, 60), (30, 40)))
    assert [(~padding).sum().item() for padding in fixed.padding] == [13 * 60, 30 * 40]
