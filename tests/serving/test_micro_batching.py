"""Questions of one kind share a batch; none waits long, none is lost, none pays for its neighbor."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.serving.micro_batching import MicroBatcher
from smidgen.serving.refusals import Refusal


async def answers_of(batcher: MicroBatcher[int, int], questions: list[int]) -> list[object]:
    batcher.start()
    try:
        return await asyncio.gather(*(batcher.ask(question) for question in questions), return_exceptions=True)
    finally:
        await batcher.stop()


@settings(max_examples=15)
@given(st.lists(st.integers(0, 99), max_size=20), st.integers(1, 5))
def test_every_question_gets_its_answer_in_batches_of_one_kind(questions: list[int], most: int) -> None:
    batches: list[list[int]] = []

    def squares(numbers: list[int]) -> list[int]:
        batches.append(numbers)
        return [number**2 for number in numbers]

    batcher = MicroBatcher(squares, lambda number: number % 3, most=most, wait_s=0.002)
    assert asyncio.run(answers_of(batcher, questions)) == [number**2 for number in questions]
    assert all(len(batch) <= most and len({number % 3 for number in batch}) == 1 for batch in batches)


def test_questions_at_once_share_a_batch() -> None:
    sizes: list[int] = []
    batcher = MicroBatcher[int, int](
        list, lambda _: 0, most=4, wait_s=0.2, observe=lambda size, seconds: sizes.append(size)
    )
    assert asyncio.run(answers_of(batcher, list(range(8)))) == list(range(8))
    assert sizes == [4, 4]


def test_failure_of_one_is_not_its_neighbors() -> None:
    def fragile(numbers: list[int]) -> list[int]:
        if 3 in numbers:
            raise ArithmeticError("three")
        return numbers

    batcher = MicroBatcher(fragile, lambda _: 0, most=8, wait_s=0.05)
    found = asyncio.run(answers_of(batcher, [1, 2, 3, 4]))
    assert [found[0], found[1], found[3]] == [1, 2, 4]
    assert isinstance(found[2], ArithmeticError)


def test_who_gave_up_is_not_computed() -> None:
    seen: list[int] = []
    gate = threading.Event()

    def gated(numbers: list[int]) -> list[int]:
        gate.wait(5)
        seen.extend(numbers)
        return numbers

    async def scene() -> None:
        batcher = MicroBatcher(gated, lambda _: 0, most=1, wait_s=0.0)
        batcher.start()
        first = asyncio.create_task(batcher.ask(1))
        second, third = asyncio.create_task(batcher.ask(2)), asyncio.create_task(batcher.ask(3))
        await asyncio.sleep(0.05)
        assert batcher.busy_seconds > 0
        assert batcher.waiting == 2
        second.cancel()
        gate.set()
        assert [await first, await third] == [1, 3]
        await batcher.stop()

    asyncio.run(scene())
    assert seen == [1, 3]


def test_nobody_is_answered_after_the_end() -> None:
    async def scene() -> None:
        batcher = MicroBatcher[int, int](list, lambda _: 0, most=1, wait_s=0.0)
        batcher.start()
        await batcher.stop()
        with pytest.raises(Refusal, match="stopping"):
            await batcher.ask(1)

    began = time.monotonic()
    asyncio.run(scene())
    assert time.monotonic() - began < 5
