"""The loop's tests see that pictures are asked for; drawing them takes longer than the trainings here."""

from __future__ import annotations

from pathlib import Path

import pytest

import smidgen.data
import smidgen.training.loop


@pytest.fixture(autouse=True)
def pictures(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    drawn: list[Path] = []

    def draw_samples(batch: object, classes: object, path: Path) -> None:
        path.write_bytes(b"picture")
        drawn.append(path)

    monkeypatch.setattr(smidgen.training.loop, "draw_curves", lambda lines, path: path.write_bytes(b"curves"))
    monkeypatch.setattr(smidgen.data, "draw_samples", draw_samples, raising=False)
    return drawn
