"""Official checkpoints to ours and back: one name in, one name out, no tensor fused or reshaped.

A layout is an ordered list of (pattern, replacement) that turns each of our names into the official one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Layout:
    """rules: regular expressions applied in order to our names. ignored: official names that hold nothing to convert
    (buffers that are computed, weights that are never used). aliases: (pattern, replacement) from the official name of
    a tensor to the other names under which the official file repeats it; `{}` in the replacement runs over 0, 1, 2 ...
    """

    rules: Sequence[tuple[str, str]]
    ignored: Sequence[str] = ()
    aliases: Sequence[tuple[str, str]] = ()
    num_aliases: int = 0

    def official_name(self, name: str) -> str:
        """The official name of one of our tensors."""
        for pattern, replacement in self.rules:
            name = re.sub(pattern, replacement, name)
        return name

    def alias_names(self, official: str) -> list[str]:
        """Other official names of the same tensor."""
        names = [
            re.sub(pattern, replacement.replace("{}", str(index)), official)
            for pattern, replacement in self.aliases
            if re.search(pattern, official)
            for index in range(self.num_aliases)
        ]
        return [name for name in names if name != official]


def from_official(layout: Layout, model: nn.Module, official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict for `model` from the tensors of an official file.

    Raises ValueError where tensors are missing, left over, of another shape, or repeated with other values.
    """
    own = model.state_dict()
    names = {name: layout.official_name(name) for name in own}
    missing = [official_name for official_name in names.values() if official_name not in official]
    if missing:
        raise ValueError(f"expected {_some(missing)} in the official checkpoint: another system, size or layout?")
    state = {name: official[official_name] for name, official_name in names.items()}
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise ValueError(
                f"expected {names[name]} of shape {tuple(own[name].shape)}, got {tuple(tensor.shape)}; "
                "does the number of classes, queries or levels differ?"
            )
    _check_rest(layout, set(names.values()), official)
    return state


def to_official(layout: Layout, model: nn.Module) -> dict[str, Tensor]:
    """The tensors of `model` under their official names, aliases included."""
    official: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        first = layout.official_name(name)
        for official_name in [first, *layout.alias_names(first)]:
            official[official_name] = tensor
    return official


def _check_rest(layout: Layout, used: set[str], official: Mapping[str, Tensor]) -> None:
    repeated = {alias: name for name in used for alias in layout.alias_names(name)}
    for alias, name in repeated.items():
        if alias in official and not official[alias].equal(official[name]):
            raise ValueError(f"expected {alias} to repeat {name}, but their values differ: heads are not shared here")
    ignored = [re.compile(pattern) for pattern in layout.ignored]
    rest = [
        name
        for name in official
        if name not in used and name not in repeated and not any(pattern.search(name) for pattern in ignored)
    ]
    if rest:
        raise ValueError(
            f"{_some(rest)} of the official checkpoint have no place in this model: another system or size?"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
