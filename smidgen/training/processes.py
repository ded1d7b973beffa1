"""One process, or several under torchrun, behind one Accelerator."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, gather_object
from jaxtyping import Float
from torch import Tensor, nn

# While the main process evaluates, the others wait for it; collectives must not lose patience.
_PATIENCE = timedelta(hours=6)


@contextlib.contextmanager
def open_accelerator(device: str | None = None) -> Iterator[Accelerator]:
    """An Accelerator on `device` ("cpu", "cuda", "cuda:1"; None = a GPU where there is one), forgotten afterwards.

    Errors: ValueError for a device that is not there.
    """
    cpu = _runs_on_cpu(device)
    # Some parameters answer only to some batches (denoising without objects, classes without boxes).
    options = [DistributedDataParallelKwargs(find_unused_parameters=True), InitProcessGroupKwargs(timeout=_PATIENCE)]
    _forget_accelerator()
    accelerator = Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=options)
    try:
        yield accelerator
    finally:
        _forget_accelerator()


def distributed(accelerator: Accelerator, model: nn.Module) -> nn.Module:
    """The model as it is called in training: wrapped to average gradients where there are several processes."""
    wrapped: nn.Module = accelerator.prepare_model(model)
    return wrapped


def mean_over_processes(accelerator: Accelerator, values: list[float | torch.Tensor]) -> list[float]:
    """The mean of each number over all processes, by one exchange."""
    parts = [torch.as_tensor(value, dtype=torch.float64, device="cpu").detach() for value in values]
    if accelerator.num_processes == 1:
        return [float(part) for part in parts]
    exchanged = accelerator.reduce(torch.stack(parts).to(accelerator.device, torch.float32), reduction="mean")
    return [float(value) for value in exchanged.tolist()]


def means_and_own(
    accelerator: Accelerator, shared: Float[Tensor, " S"], own: Float[Tensor, " N"]
) -> tuple[list[float], list[float]]:
    """The mean of each shared number over all processes, and this one's own numbers: one exchange, one copy."""
    if accelerator.num_processes > 1:
        shared = accelerator.reduce(shared, reduction="mean")
    numbers = torch.cat([shared, own]).tolist()
    return numbers[: len(shared)], numbers[len(shared) :]


def gathered(accelerator: Accelerator, value: Any) -> list[Any]:
    """The values of all processes, in their order."""
    return list(gather_object([value])) if accelerator.num_processes > 1 else [value]


def _runs_on_cpu(device: str | None) -> bool:
    if device is None:
        return not (torch.cuda.is_available() or torch.backends.mps.is_available())
    kind = torch.device(device)
    if kind.type == "cuda":
        if (kind.index or 0) >= torch.cuda.device_count():
            raise ValueError(
                f"expected one of {torch.cuda.device_count()} CUDA devices, got {device!r}; try --device cpu"
            )
        if kind.index is not None:
            torch.cuda.set_device(kind.index)
    elif kind.type not in ("cpu", "mps"):
        raise ValueError(f"expected the device cpu, cuda, cuda:N or mps, got {device!r}; change --device")
    return kind.type == "cpu"


def _forget_accelerator() -> None:
    """Accelerate keeps its first device for the whole program; two trainings in one program may differ in it.

    The process group of torchrun lives as long as the program: it cannot be opened twice.
    """
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
