"""Limits that no server could keep are refused before it starts."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from smidgen.serving.limits import Limits


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"megapixels": 0.0}, "above 0 .*--megapixels"),
        ({"body_mib": float("inf")}, "--body-mib"),
        ({"answer_seconds": float("nan")}, "--answer-seconds"),
        ({"wait_ms": -1.0}, "--wait-ms"),
        ({"images": 4}, "raise --images"),
        ({"megapixels": 400.0}, "at most 179 megapixels, since Pillow"),
    ],
)
def test_what_cannot_be_kept_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Limits(**wrong)


def test_who_trusts_the_senders_may_raise_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert Limits(megapixels=400.0).pixels == 400_000_000
