"""Finds golden cases and compares outputs by each case's own tolerance (the folder's README has the format)."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

CHECKOUT = Path(__file__).parents[2]


def golden_folder() -> Path:
    """`SMIDGEN_GOLDEN`, or ../shared/golden beside the checkout."""
    return Path(os.environ.get("SMIDGEN_GOLDEN", CHECKOUT.parent / "shared" / "golden"))


@dataclass(frozen=True)
class Case:
    """One folder of numbers made with official code."""

    folder: Path
    compared: set[str] = field(default_factory=set, compare=False)

    @property
    def id(self) -> str:
        return f"{self.folder.parent.name}/{self.folder.name}"

    @cached_property
    def description(self) -> dict[str, Any]:
        return json.loads((self.folder / "case.json").read_text())

    @property
    def kind(self) -> str:
        return self.description["kind"]

    @property
    def config(self) -> dict[str, Any]:
        return self.description["config"]

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        return _arrays(self.folder / "inputs.npz")

    @cached_property
    def outputs(self) -> dict[str, Tensor]:
        return _arrays(self.folder / "outputs.npz")

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        return {name: tensor.float() for name, tensor in load_file(self.folder / "weights.safetensors").items()}

    def compare(self, name: str, actual: Tensor, exact: bool = False, expected: Tensor | None = None) -> None:
        """Assert that `actual` is the expected output `name` within the case's tolerance, or equal.

        expected: the output in another form, where ties or padding allow no comparison as it is.
        """
        self.compared.add(name)
        expected = self.outputs[name] if expected is None else expected
        tolerance = self.description["tolerance"]
        must_be_equal = tolerance.get("exact", [])
        if exact or "*" in must_be_equal or name in must_be_equal:
            assert torch.equal(actual.to(expected.dtype), expected), f"{self.id}: {name} must be equal"
            return
        fields = [prefix for prefix in tolerance.get("fields", {}) if name.startswith(prefix)]
        bounds = tolerance["fields"][max(fields, key=len)] if fields else tolerance
        torch.testing.assert_close(
            actual.to(expected.dtype),
            expected,
            atol=bounds.get("atol", tolerance["atol"]),
            rtol=bounds.get("rtol", tolerance["rtol"]),
            msg=lambda text: f"{self.id}: {name}: {text}",
        )

    def assert_all_compared(self, besides: frozenset[str] = frozenset()) -> None:
        """Assert that no expected output was passed over."""
        assert set(self.outputs) - self.compared - besides == set(), (
            f"{self.id}: outputs that nothing was compared with"
        )


def cases() -> list[Case]:
    """Every case in the folder, in order; none where there is no folder."""
    return [Case(path.parent) for path in sorted(golden_folder().glob("*/*/case.json"))]


def _arrays(path: Path) -> dict[str, Tensor]:
    with np.load(path) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
