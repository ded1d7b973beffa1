"""A dense detector with a cascade as a bundle: suppression and the choice of cells inside the file."""

from __future__ import annotations

import pytest
from export_cases import make, smallest

from smidgen.export import ExportConfig, export

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def test_cascade_and_suppression_are_in_the_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = make("query_det_nano", **smallest("query_det_nano"))
    made = export(model, tmp_path / "query_det", config=ExportConfig(canvas_hw=(96, 128)))
    assert made.bundle.verified, made.bundle.checks
    assert all(check.pairs >= 10 * check.images for check in made.bundle.checks)
