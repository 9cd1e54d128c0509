"""What all fan-outs share, on a feed as simple as can be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import penstock
from penstock import Limiter
from penstock._limiter.lent import lent_slots
from penstock._limiter.slots import Slot
from penstock._many.feed import Feed
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.sweep import cancel_sweep

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


class Doubled(Feed[int, int]):
    """Posts each number twice, a second apart."""

    most = 0

    async def _child(self, index: int, item: int, slot: Slot) -> None:
        assert lent_slots() == (slot,)
        self.most = max(self.most, self._running)
        for _ in range(2):
            await anyio.sleep(1)
            self._post(item)

    def _may_pull(self) -> bool:
        return True

    def __aiter__(self) -> Doubled:
        return self

    async def __anext__(self) -> int:
        post = await self._next_post()
        if post is None:
            raise StopAsyncIteration
        return post


async def counted(count: int) -> AsyncIterator[int]:  # noqa: ASYNC900 - a source, as users write them
    for number in range(count):
        await anyio.lowlevel.checkpoint()
        yield number


@pytest.mark.parametrize("limit", [1, 3, 50])
@pytest.mark.parametrize("asynchronous", [True, False])
async def test_every_item_once(limit: int, asynchronous: bool) -> None:
    source: Any = counted(20) if asynchronous else range(20)
    async with Doubled(source, limit) as feed:
        posts = [post async for post in feed]
    assert sorted(posts) == sorted([*range(20), *range(20)])
    assert feed.most == min(limit, 20)
    assert anyio.current_time() == pytest.approx(2 * -(-20 // limit), abs=1e-3)


async def test_posts_wait_for_a_reader_that_is_away() -> None:
    async with Doubled([1, 2], 2) as feed:
        await anyio.sleep(10)
        assert sorted([post async for post in feed]) == [1, 1, 2, 2]
        assert [post async for post in feed] == []


async def test_a_cancelled_read_loses_nothing() -> None:
    posts: list[int] = []
    async with Doubled(range(5), 2) as feed:
        while True:
            with anyio.move_on_after(0.3):
                try:
                    posts.append(await anext(feed))
                except StopAsyncIteration:
                    break
    assert sorted(posts) == sorted([*range(5), *range(5)])


async def test_a_plain_iterator_of_the_caller_can_be_read_on() -> None:
    source = iter(range(10))
    async with Doubled(source, 2) as feed:
        await anext(feed)
    assert next(source) in (2, 3, 4)


async def test_a_generator_is_closed() -> None:
    closed: list[bool] = []

    def source() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            closed.append(True)

    async with Doubled(source(), 2) as feed:
        await anext(feed)
    assert closed == [True]


@pytest.mark.parametrize("at", [0, 3])
async def test_an_error_of_the_source_comes_last_and_comes_again(at: int) -> None:
    def source() -> Iterator[int]:
        yield from range(at)
        raise LookupError

    posts: list[int] = []
    async with Doubled(source(), 2) as feed:
        for _ in range(2):
            with pytest.raises(LookupError):  # noqa: PT012
                async for post in feed:
                    posts.append(post)
    assert sorted(posts) == sorted([*range(at), *range(at)])


async def test_slots_are_back_whenever_it_is_left() -> None:
    for seconds in (0, 0.5, 1, 1.5, 2.5, 100):
        limiter = Limiter(2)
        async with Doubled(range(6), limiter) as feed:
            with anyio.move_on_after(seconds):
                async for _ in feed:
                    pass
        statistics = limiter.statistics()
        assert (statistics.in_flight, statistics.waiting) == (0, 0)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled_at_every_point(backend: Any) -> None:
    limiters: list[Limiter] = []

    async def scenario() -> None:
        limiter = Limiter(2)
        limiters.append(limiter)
        async with Doubled(counted(4), limiter) as feed:
            async for _ in feed:
                await anyio.lowlevel.checkpoint()

    cancel_sweep(backend, scenario)
    assert len(limiters) > 10
    for limiter in limiters:
        assert limiter.statistics().in_flight == limiter.statistics().waiting == 0


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_source_stands_in_the_place_of_its_next_item(asynchronous: bool) -> None:
    limiter = Limiter(2)
    lines: list[object] = []

    def numbers() -> Iterator[int]:
        for number in range(3):
            lines.append([slot.line for slot in lent_slots()])
            yield number

    async def asynchronously() -> AsyncIterator[int]:  # noqa: ASYNC900 - a source, as users write them
        for number in numbers():
            await anyio.lowlevel.checkpoint()
            yield number

    source: Any = asynchronously() if asynchronous else numbers()
    async with Doubled(source, limiter) as feed:
        assert len([post async for post in feed]) == 6
    assert lines == [[limiter.line]] * 3
    assert lent_slots() == ()


class Stop(BaseException):
    """No error, as KeyboardInterrupt is none."""


class Interrupted(Doubled):
    """Has a task group in its child, which wraps up what is raised there."""

    async def _child(self, index: int, item: int, slot: Slot) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 1)
            await anyio.sleep(0.5)
            raise Stop


async def test_what_is_no_error_leaves_the_block_bare() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise BaseExceptionGroup("of the source", [Stop()])

    limiter = Limiter(1)
    for feed in (Interrupted([1, 2], limiter), Doubled(source(), limiter)):
        with pytest.raises(Stop):
            async with feed:
                await anyio.sleep(5)
        assert limiter.statistics().in_flight == 0


async def test_an_exception_of_the_body_goes_before_a_scope_s_cancellation() -> None:
    # The scope stays cancelled and tells again.
    with anyio.CancelScope() as scope:
        with pytest.raises(LookupError):  # noqa: PT012
            async with Doubled(range(9), 2) as feed:
                await anext(feed)
                scope.cancel()
                raise LookupError
        with pytest.raises(anyio.get_cancelled_exc_class()):
            await anyio.lowlevel.checkpoint()


async def test_asyncio_s_own_cancellation_goes_before_an_exception_of_the_body(
    anyio_backend_name: str,
) -> None:
    if anyio_backend_name != "asyncio":
        return

    async def main() -> None:
        async with Doubled(range(9), 2) as feed:
            await anext(feed)
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            raise LookupError

    # It is told once: lost here, it would be lost for ever.
    task = asyncio.create_task(main())
    await asyncio.wait([task])
    assert task.cancelled()


@pytest.mark.parametrize("error", [None, ValueError])
async def test_a_source_that_stands_inside_of_a_task_group_of_its_own_is_closed(
    error: type[Exception] | None,
) -> None:
    closed: list[bool] = []

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            closed.append(True)
            if error is not None:
                raise error

    async def source() -> AsyncIterator[int]:  # noqa: ASYNC900 - a source, as users write them
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            for number in range(9):
                yield number  # noqa: ASYNC101, ASYNC119 - what is tested

    # Closing such a generator raises a group of its GeneratorExit, which is nobody's business.
    failed: list[BaseException] = []
    try:
        async with Doubled(source(), 1) as feed:
            await anext(feed)
    except* ValueError as group:
        failed += group.exceptions
    assert closed == [True]
    assert [type(each) for each in failed] == ([] if error is None else [error])


async def test_an_item_starts_in_a_place_although_its_source_gave_one_up_meanwhile() -> None:
    async def source() -> AsyncIterator[int]:  # noqa: ASYNC900 - a source, as users write them
        await anyio.sleep(3)
        yield 1

    limiter = Limiter(1)
    async with Doubled(source(), limiter) as feed:
        await anyio.sleep(1)
        async with limiter:  # while nothing comes, the feed does without
            await anyio.sleep(4)
        assert await anext(feed) == 1
        assert anyio.current_time() == pytest.approx(6, abs=1e-3)


async def test_posts_that_were_dropped_with_the_block_are_no_clean_end() -> None:
    async with Doubled([1], 1) as feed:
        await anyio.sleep(10)
    with pytest.raises(penstock.StreamClosedError):
        await anext(feed)


async def test_an_exception_of_the_body_goes_before_an_error_of_the_source_s_closing() -> None:
    async def source() -> AsyncIterator[int]:  # noqa: ASYNC900 - a source, as users write them
        try:
            yield 1
            await anyio.sleep_forever()
        finally:
            raise ValueError

    for error in (None, LookupError):
        with pytest.raises(error or ValueError):  # noqa: PT012
            async with Doubled(source(), 3) as feed:
                await anext(feed)
                if error is not None:
                    raise error


async def test_left_is_left() -> None:
    async with Doubled([1], 1) as feed:
        pass
    with pytest.raises(penstock.StreamClosedError):
        await anext(feed)


class Late(Doubled):
    """Posts each number when it is cancelled, too."""

    async def _child(self, index: int, item: int, slot: Slot) -> None:
        try:
            await super()._child(index, item, slot)
        finally:
            self._post(item)


async def test_what_is_posted_while_it_is_left_is_dropped() -> None:
    async with Late([1, 2], 2) as feed:
        await anext(feed)
    with pytest.raises(penstock.StreamClosedError):
        await anext(feed)


@pytest.mark.parametrize("source", [5, None, object()])
def test_what_is_no_source(source: Any) -> None:
    with pytest.raises(TypeError, match="iterable"):
        Doubled(source, 2)


@pytest.mark.parametrize("limit", [0, -1, 2.0, "2", None, True])
def test_what_is_no_limit(limit: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        Doubled([], limit)
