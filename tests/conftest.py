"""Every test starts from the same random state, on one thread, with shapes checked; no GPU, no test of a GPU."""

from __future__ import annotations

import random

import hypothesis
import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook

# Before anything imports the stages: every call checks the shapes and types of its signature (tests/shape_checks.py).
STAGES = ("structures", "boxes", "nn", "features", "tokens", "queries", "decoder", "assignment", "losses")
install_import_hook([f"smidgen.{stage}" for stage in STAGES], "shape_checks.checked")

torch.set_num_threads(1)
# Under load the first call of a kernel takes longer than any deadline that would be worth setting.
hypothesis.settings.register_profile("smidgen", deadline=None, max_examples=40)
hypothesis.settings.load_profile("smidgen")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
