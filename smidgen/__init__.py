"""Smidgen: detect small and tiny objects with five published systems built from one set of interchangeable parts."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0.dev0"

# Public name -> module that defines it. Imported on first use: `import smidgen` must not load torch.
_PUBLIC: dict[str, str] = {
    "Classes": "smidgen.structures",
    "Detections": "smidgen.structures",
    "Guide": "smidgen.inference",
    "Tiling": "smidgen.inference",
    "create_criterion": "smidgen.models",
    "create_model": "smidgen.models",
    "evaluate": "smidgen.evaluation",
    "from_pretrained": "smidgen.checkpoints",
    "list_models": "smidgen.models",
    "load": "smidgen.checkpoints",
    "open_dataset": "smidgen.data",
    "optimize": "smidgen.inference",
    "predict": "smidgen.inference",
    "push_to_hub": "smidgen.checkpoints",
    "register_model": "smidgen.models",
    "register_part": "smidgen.models",
    "save": "smidgen.checkpoints",
    "save_pretrained": "smidgen.checkpoints",
    "train": "smidgen.training",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'smidgen' has no attribute {name!r}; public names: {', '.join(sorted(_PUBLIC))}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
