"""What was rewritten for inference has no checkpoint: its weights no longer have the names and meanings of training."""

from __future__ import annotations

from typing import Any

from torch import nn


def refuse_to_be_saved(module: nn.Module, *_: Any) -> None:
    """A hook for `module.register_state_dict_pre_hook`. Raises ValueError."""
    raise ValueError(
        f"expected a model as it was trained, got one rewritten for inference ({type(module).__name__}), whose weights "
        "no checkpoint can hold; save the model that it was made from, and rewrite it again after loading"
    )
