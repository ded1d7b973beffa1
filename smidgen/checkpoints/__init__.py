"""Models on disk: our own format (safetensors and JSON, never unpickled) and the official releases, converted."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smidgen.checkpoints.conversion import ConversionReport, convert
    from smidgen.checkpoints.initialization import InitializationReport, initialize
    from smidgen.checkpoints.native import load, save
    from smidgen.checkpoints.sharing import from_pretrained, push_to_hub, save_pretrained

# Public name -> module that defines it. Imported on first use: naming this package must not load torch.
_PUBLIC = {
    "ConversionReport": "smidgen.checkpoints.conversion",
    "convert": "smidgen.checkpoints.conversion",
    "from_pretrained": "smidgen.checkpoints.sharing",
    "InitializationReport": "smidgen.checkpoints.initialization",
    "initialize": "smidgen.checkpoints.initialization",
    "load": "smidgen.checkpoints.native",
    "push_to_hub": "smidgen.checkpoints.sharing",
    "save": "smidgen.checkpoints.native",
    "save_pretrained": "smidgen.checkpoints.sharing",
}

__all__ = [
    "ConversionReport",
    "InitializationReport",
    "convert",
    "from_pretrained",
    "initialize",
    "load",
    "push_to_hub",
    "save",
    "save_pretrained",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'smidgen.checkpoints' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_PUBLIC[name]), name)
