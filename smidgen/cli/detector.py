"""The detector of a run as a verb needs it: on its device, optimized if asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from torch import nn

    from smidgen.export.bundle import Bundle

Optimized = Annotated[
    str | None,
    typer.Option(
        "--optimize",
        metavar="fp32|bf16",
        help="Answer faster, nearly the same: fp32 (norms folded), or bf16 where the processor computes in it.",
    ),
]
Compiled = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Optimized and compiled: the first image of every size takes minutes, those after it less time. Canvases "
        "are padded to multiples of 64 px, so that there are few sizes. In fp32 unless --optimize says bf16.",
    ),
]


def bundle_of(run: Path) -> Bundle | None:
    """What an exported file says of itself; None for a run. Raises ValueError for a damaged one."""
    from smidgen.export.bundle import is_bundle, read_bundle

    return read_bundle(run) if is_bundle(run) else None


def load_detector(run: Path, device: str, optimized: str | None = None, compiled: bool = False) -> nn.Module:
    """The model of a run, or an exported file, in evaluation mode. Errors: ValueError for one that cannot be read, a
    format that is not offered, and an exported file that is to be optimized.
    """
    if optimized not in (None, "fp32", "bf16"):
        raise ValueError(f"expected fp32 or bf16, got {optimized!r}; change --optimize")
    from smidgen.checkpoints import load
    from smidgen.export.bundle import is_bundle

    if is_bundle(run):
        from smidgen.export import load_bundle

        if optimized or compiled:
            raise ValueError(
                "expected a run to optimize or compile, got an exported file: leave --optimize and --compile out"
            )
        return load_bundle(run)
    model = load(run, device)
    if optimized is None and not compiled:
        return model
    from smidgen.inference import optimize

    return optimize(model, "bf16" if optimized == "bf16" else "fp32", compiled)
