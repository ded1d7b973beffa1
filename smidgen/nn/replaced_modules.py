"""Modules of a network exchanged for others, wherever they stand."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn


def replace(network: nn.Module, instead: Mapping[nn.Module, nn.Module]) -> None:
    """Put `instead[module]` in the place of each module of `network` that is a key, in place."""
    for parent in list(network.modules()):
        for name, child in list(parent._modules.items()):  # named_children names a child that stands twice once
            if child is not None and child in instead:
                parent.register_module(name, instead[child])
