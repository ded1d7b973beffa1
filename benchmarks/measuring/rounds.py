"""All variants once per round, so that a busy moment of the machine falls on all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from measuring.clock import Spent, clock_of
from measuring.measurement import Measurement, VariantTimes
from measuring.memory import peak_mib

Variants = Mapping[str, Callable[[], Any]]


def measure(
    name: str,
    variants: Variants,
    *,
    against: str,
    rounds: int,
    warm_ups: int = 1,
    memory: bool = False,
    device: str = "cpu",
    at: tuple[str, float] | None = None,
) -> Measurement:
    """Time `variants` in turns after `warm_ups` rounds that do not count; every round starts with another variant.

    memory: call each once more and see what it holds at once. at: see `Measurement`.
    """
    if against not in variants:
        raise ValueError(f"expected `against` to be one of {list(variants)}, got {against!r}")
    clock, timed = clock_of(device)
    before = _load()
    answers = {each: variants[each]() for _ in range(max(warm_ups, 1)) for each in variants}
    spent: dict[str, list[Spent]] = {each: [] for each in variants}
    for turn in range(rounds):
        for each in _rotated(list(variants), turn):
            spent[each].append(timed(variants[each])[0])
    peaks = {each: peak_mib(variants[each], device) if memory else None for each in variants}
    times = tuple(_times(each, spent[each], peaks[each]) for each in variants)
    load = (before, _load())
    return Measurement(name=name, clock=clock, against=against, variants=times, load=load, at=at, answers=answers)


def measure_long(name: str, variants: Variants, *, against: str, rounds: int = 1, device: str = "cpu") -> Measurement:
    """Time and memory of calls too long to be made more than `rounds` times: without warm-up or a further call.

    Warm up with something small before.
    """
    clock, timed = clock_of(device)
    before = _load()
    answers: dict[str, Any] = {}
    spent: dict[str, list[Spent]] = {each: [] for each in variants}
    peaks: dict[str, float | None] = {}
    for turn in range(rounds):
        for each in _rotated(list(variants), turn):

            def call(each: str = each) -> None:
                took, answers[each] = timed(variants[each])
                spent[each].append(took)

            peaks[each] = peak_mib(call, device)
    times = tuple(_times(each, spent[each], peaks[each]) for each in variants)
    return Measurement(name=name, clock=clock, against=against, variants=times, load=(before, _load()), answers=answers)


def _rotated(names: list[str], turn: int) -> list[str]:
    start = turn % len(names)
    return names[start:] + names[:start]


def _times(name: str, spent: list[Spent], peak: float | None) -> VariantTimes:
    seconds, wall_seconds = tuple(each.seconds for each in spent), tuple(each.wall_seconds for each in spent)
    return VariantTimes(name=name, seconds=seconds, wall_seconds=wall_seconds, peak_mib=peak)


def _load() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
