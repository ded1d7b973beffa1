"""Official checkpoints to ours and back: renamed tensor by tensor, and split or joined only where a release keeps one
of our tensors in pieces.

A layout is an ordered list of (pattern, replacement) that turns each of our names into the official one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

_SHOWN = 3
# Tensors of these places that are left over belong to a larger network than the model: they are never left out.
_ALWAYS_NEEDED = ("backbone.", "transformer.encoder.layers.", "transformer.decoder.", "class_embed.", "bbox_embed.")


@dataclass(frozen=True, kw_only=True)
class Layout:
    r"""The names of one release. Patterns are regular expressions, replacements may refer to their groups.

    rules: (pattern, replacement), applied in order to our names. pieces: (pattern, replacements) for tensors that the
    release keeps in pieces, which follow each other along the first axis.
    source: what messages call the release. has, lacks: beginnings of official names that a file of it holds, or holds
    none of (`recognizes`).
    ignored: official names that hold nothing to convert (computed buffers, weights that are never used).
    aliases: (pattern, replacement) from an official name to others under which files repeat the tensor; `{}` in a
    replacement runs over the decoder layers, or over 0 ... `num_aliases` - 1. stand_ins: (pattern, replacement) from a
    name that files leave out, with its aliases, where it shares the tensor of another name.
    spellings: (pattern, replacement) from names of other versions of the release to those used here.
    distinct: names of tensors that are not all equal unless the file is of another system.
    optional: names that files may lack; the model keeps its own value (counters, computed buffers).
    settings: (field of the configuration, official name of a tensor that holds its values). implied: fields of the
    configuration, nested as it is, that the release's weights need and no tensor tells (preprocessing).
    tolerates_extras: names that nobody knows are left out too, unless they show that the file is of a larger network
    (weights in the backbone, in encoder or decoder layers, or in the heads).
    """

    rules: Sequence[tuple[str, str]]
    pieces: Sequence[tuple[str, Sequence[str]]] = ()
    source: str = "official"
    has: Sequence[str] = ()
    lacks: Sequence[str] = ()
    ignored: Sequence[str] = ()
    aliases: Sequence[tuple[str, str]] = ()
    num_aliases: int | None = None
    stand_ins: Sequence[tuple[str, str]] = ()
    spellings: Sequence[tuple[str, str]] = ()
    distinct: str | None = None
    optional: Sequence[str] = ()
    settings: Sequence[tuple[str, str]] = ()
    implied: Mapping[str, Any] = field(default_factory=dict)
    tolerates_extras: bool = False

    def official_name(self, name: str) -> str:
        """The official name of one of our tensors, before it is taken to pieces."""
        return _renamed(name, self.rules)

    def official_names(self, name: str) -> list[str]:
        """The official names of one of our tensors: one, or one per piece."""
        official = self.official_name(name)
        for pattern, replacements in self.pieces:
            if re.search(pattern, official):
                return [re.sub(pattern, replacement, official) for replacement in replacements]
        return [official]

    def alias_names(self, official: str, num_layers: int) -> list[str]:
        """Other official names of the same tensor in a model of `num_layers` decoder layers."""
        count = num_layers if self.num_aliases is None else self.num_aliases
        names = [
            re.sub(pattern, replacement.replace("{}", str(index)), official)
            for pattern, replacement in self.aliases
            if re.search(pattern, official)
            for index in range(count if "{}" in replacement else 1)
        ]
        return [name for name in names if name != official]

    def respelled(self, official: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a file under the spelling that this layout uses."""
        return {_renamed(name, self.spellings): tensor for name, tensor in official.items()}

    def recognizes(self, official: Mapping[str, Tensor]) -> bool:
        """Whether the names of a file are those of this release."""
        names = self.respelled(official)
        present = all(any(name.startswith(beginning) for name in names) for beginning in self.has)
        return present and not any(name.startswith(tuple(self.lacks)) for name in names)

    def may_leave_out(self, official: str) -> bool:
        """Whether a name that no tensor of the model has holds nothing to convert."""
        extra = self.tolerates_extras and not official.startswith(_ALWAYS_NEEDED)
        return extra or any(re.search(pattern, official) for pattern in self.ignored)


def from_official(layout: Layout, model: nn.Module, official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict for `model` from the tensors of an official file.

    Raises ValueError where tensors are missing, left over, of another shape, or repeated with other values.
    """
    own = model.state_dict()
    names = _official_names(layout, own)
    official = layout.respelled(official)
    names = {name: group for name, group in names.items() if not _may_lack(layout, group, official)}
    wanted = [official_name for group in names.values() for official_name in group]
    aliases = {name: layout.alias_names(name, _num_decoder_layers(own)) for name in wanted}
    found = {name: _found(layout, name, aliases[name], official) for name in wanted}
    missing = [name for name, source in found.items() if source is None]
    if missing:
        raise ValueError(f"expected {_some(missing)} in the official checkpoint: another system, size or layout?")
    state = {name: _joined([official[str(found[piece])] for piece in group]) for name, group in names.items()}
    state = {name: state.get(name, tensor) for name, tensor in own.items()}
    _check_shapes(own, state, names)
    _check_repeats(official, aliases)
    _check_rest(layout, left_over(layout, model, official))
    _check_distinct(layout, official)
    return state


def left_over(layout: Layout, model: nn.Module, official: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Names of a file under which `model` has no tensor."""
    own = model.state_dict()
    names = [each for group in _official_names(layout, own).values() for each in group]
    aliases = [alias for name in names for alias in layout.alias_names(name, _num_decoder_layers(own))]
    used = {*names, *aliases}
    return tuple(name for name in layout.respelled(official) if name not in used)


def to_official(layout: Layout, model: nn.Module) -> dict[str, Tensor]:
    """The tensors of `model` under their official names, aliases included."""
    own = model.state_dict()
    official: dict[str, Tensor] = {}
    for name, group in _official_names(layout, own).items():
        for official_name, piece in zip(group, _split(own[name], len(group)), strict=True):
            for alias in [official_name, *layout.alias_names(official_name, _num_decoder_layers(own))]:
                official[alias] = piece
    return official


def _official_names(layout: Layout, names: Iterable[str]) -> dict[str, list[str]]:
    """Our name -> official names. No official name may serve twice: the way back would be lost."""
    renamed = {name: layout.official_names(name) for name in names}
    flat = [official for group in renamed.values() for official in group]
    twice = sorted({official for official in flat if flat.count(official) > 1}) if len(set(flat)) < len(flat) else []
    if twice:
        raise ValueError(f"expected every tensor to have an official name of its own, but {_some(twice)} serves twice")
    return renamed


def _may_lack(layout: Layout, group: Sequence[str], official: Mapping[str, Tensor]) -> bool:
    """Whether a file lacks tensors that it may lack."""
    return any(re.search(pattern, group[0]) for pattern in layout.optional) and not official.keys() & set(group)


def _num_decoder_layers(names: Iterable[str]) -> int:
    return len({found[1] for name in names if (found := re.match(r"decoder\.layers\.(\d+)\.", name))})


def _found(layout: Layout, name: str, aliases: Sequence[str], official: Mapping[str, Tensor]) -> str | None:
    """Under which name a file holds a tensor."""
    for candidate in (name, *aliases, _renamed(name, layout.stand_ins)):
        if candidate in official:
            return candidate
    return None


def _split(tensor: Tensor, pieces: int) -> Sequence[Tensor]:
    return tensor.chunk(pieces) if pieces > 1 else [tensor]


def _joined(pieces: Sequence[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces))


def _check_shapes(own: Mapping[str, Tensor], state: Mapping[str, Tensor], names: Mapping[str, Sequence[str]]) -> None:
    for name in names:
        tensor = state[name]
        if tensor.shape != own[name].shape:
            raise ValueError(
                f"expected {_some(names[name])} of shape {tuple(own[name].shape)}, got {tuple(tensor.shape)}; "
                "does the number of classes, queries or levels differ?"
            )


def _check_repeats(official: Mapping[str, Tensor], aliases: Mapping[str, Sequence[str]]) -> None:
    for name, group in aliases.items():
        present = [each for each in (name, *group) if each in official]
        for alias in present[1:]:
            if not official[alias].equal(official[present[0]]):
                raise ValueError(
                    f"expected {alias} to repeat {present[0]}, but their values differ: heads are not shared here"
                )


def _check_rest(layout: Layout, unused: Sequence[str]) -> None:
    rest = [name for name in unused if not layout.may_leave_out(name)]
    if rest:
        raise ValueError(
            f"{_some(rest)} of the official checkpoint have no place in this model: another system or size?"
        )


def _check_distinct(layout: Layout, official: Mapping[str, Tensor]) -> None:
    """Heads of a model that shares them would fit one that does not, and would mean something else there."""
    if layout.distinct is None:
        return
    found = [tensor for name, tensor in official.items() if re.search(layout.distinct, name)]
    if len(found) > 1 and all(tensor.equal(found[0]) for tensor in found[1:]):
        raise ValueError(f"expected different tensors {layout.distinct}, all are equal: a system with shared heads?")


def _renamed(name: str, rules: Sequence[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
