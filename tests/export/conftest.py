"""Exporting traces with symbolic sizes, which shape checks do not know."""

from __future__ import annotations

import jaxtyping
import pytest


@pytest.fixture(autouse=True, scope="module")
def _without_shape_checks() -> object:
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
