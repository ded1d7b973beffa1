"""A device that exists nowhere: tensors compute on the CPU but claim another device, and each wait for it is counted.

On a GPU the host runs ahead of the device until it asks for a value: `.item()`, `.tolist()`, `bool(tensor)`, `.cpu()`,
`nonzero` and whatever else has a size that depends on values, and each copy that is not `non_blocking`. CPU tensors do
all of this silently. Here every operation passes `Watch`, which knows those that would wait.
"""

from __future__ import annotations

import traceback
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

STAND_IN = torch.device("meta")  # the only device beside the CPU that every build of torch has
PACKAGE = Path(__file__).parents[2] / "smidgen"

COPIED_NUMBERS = "torch.tensor(numbers, device) and new_tensor wait for the copy; make it on the host and send it:"

WAITING = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::equal",
    "aten::unique_consecutive",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::bincount",
    "aten::is_nonzero",
    "torchvision::nms",
    "smidgen::suppress",
}


class StandInTensor(torch.Tensor):
    """A CPU tensor under another device's name."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> StandInTensor:
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=STAND_IN,
        )

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        raise AssertionError(f"{operator} outside of Watch")

    def tolist(self) -> list:
        """torch refuses it to subclasses."""
        return self.cpu().tolist()

    def __repr__(self) -> str:
        return f"StandInTensor({tuple(self.shape)}, {self.dtype})"


class Watch(TorchDispatchMode):
    """waits: how often the host waited for the device, by "operator file:function" of the package's innermost frame."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __enter__(self) -> Watch:
        # Autocast does not know the stand-in.
        self.asked, torch.is_autocast_enabled = torch.is_autocast_enabled, lambda *_: False
        return super().__enter__()

    def __exit__(self, *reason) -> None:
        torch.is_autocast_enabled = self.asked
        super().__exit__(*reason)

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, Tensor)]
        assert not any(_made_of_numbers(each) for each in tensors), f"{COPIED_NUMBERS} {_caller()}"
        on_device = any(isinstance(each, StandInTensor) for each in tensors)
        asked = kwargs.get("device")
        to_device = on_device if asked is None else torch.device(asked).type == STAND_IN.type
        if (on_device or to_device) and _waits(operator, args, kwargs, on_device, to_device, tensors):
            self.waits[f"{operator._schema.name.removeprefix('aten::')} {_caller()}"] += 1
        if asked is not None and to_device:
            kwargs["device"] = torch.device("cpu")
        originals = {id(each.inner): each for each in tensors if isinstance(each, StandInTensor)}
        result = operator(*tree_map(_unwrapped, args), **tree_map(_unwrapped, kwargs))

        def wrapped(value):
            if not isinstance(value, Tensor) or not to_device:
                return value
            return originals[id(value)] if id(value) in originals else StandInTensor(value)

        return tree_map(wrapped, result)


def moved(module: nn.Module) -> nn.Module:
    """The module itself with its parameters and buffers on the stand-in device."""
    with Watch():
        for part in module.modules():
            for name, value in part._parameters.items():
                if value is not None:
                    part._parameters[name] = nn.Parameter(StandInTensor(value.detach()), value.requires_grad)
            for name, value in part._buffers.items():
                if value is not None:
                    part._buffers[name] = StandInTensor(value)
    return module


def _made_of_numbers(tensor: Tensor) -> bool:
    """torch makes tensors of Python numbers on this device by itself, and without values."""
    return tensor.is_meta and not isinstance(tensor, StandInTensor)


def _unwrapped(value):
    return value.inner if isinstance(value, StandInTensor) else value


def _waits(operator, args, kwargs, on_device, to_device, tensors) -> bool:
    name = operator._schema.name
    if name in ("aten::_to_copy", "aten::copy_"):
        crosses = on_device != to_device or len({isinstance(each, StandInTensor) for each in tensors}) == 2
        blocking = not (kwargs.get("non_blocking") or (name == "aten::copy_" and len(args) > 2 and args[2]))
        return crosses and (blocking or not to_device)
    if name == "aten::repeat_interleave":
        return kwargs.get("output_size") is None
    if name in ("aten::index", "aten::index_put", "aten::index_put_"):
        return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
    return name in WAITING


def _caller() -> str:
    inside = [frame for frame in traceback.extract_stack() if frame.filename.startswith(str(PACKAGE))]
    if not inside:
        return "outside"
    return f"{Path(inside[-1].filename).relative_to(PACKAGE)}:{inside[-1].name}"
