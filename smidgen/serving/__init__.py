"""A trained detector behind HTTP: requests gathered into batches, bounded in size, time and number; an extra."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smidgen.serving.application import create_app
    from smidgen.serving.limits import Limits
    from smidgen.serving.server import serve

# Public name -> module that defines it. Imported on first use: FastAPI and uvicorn are an extra.
_PUBLIC = {
    "Limits": "smidgen.serving.limits",
    "create_app": "smidgen.serving.application",
    "serve": "smidgen.serving.server",
}

__all__ = ["Limits", "create_app", "serve"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'smidgen.serving' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_PUBLIC[name]), name)
