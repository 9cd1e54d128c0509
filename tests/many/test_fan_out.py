"""fan_out: any async function over any source. Virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import penstock
from penstock._limiter.limiter import Limiter
from penstock._many.fan_out import FanOutStatistics, fan_out
from penstock.testing.clock import virtual
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import error_reply, sse_reply, tokens
from penstock.testing.script import Pause, RecordedRequest, Reply
from tests.support.chat import REQUEST, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


async def double(number: int) -> int:
    await anyio.sleep(number)
    return 2 * number


# --- results ---


async def test_results_come_as_they_are_completed() -> None:
    started = anyio.current_time()
    async with fan_out(double, [3, 1, 2]) as results:
        seen = [result async for result in results]
    assert [(r.index, r.item, r.value, r.error) for r in seen] == [
        (1, 1, 2, None),
        (2, 2, 4, None),
        (0, 3, 6, None),
    ]
    assert [(r.started - started, r.ended - started) for r in seen] == [(0, 1), (0, 2), (0, 3)]
    assert [r.unwrap() for r in seen] == [2, 4, 6]


async def test_results_in_the_order_of_the_items() -> None:
    started = anyio.current_time()
    async with fan_out(double, [3, 1, 2], ordered=True) as results:
        seen = [(r.index, r.value, anyio.current_time() - started) async for r in results]
    assert seen == [(0, 6, 3), (1, 2, 3), (2, 4, 3)]


async def test_an_error_is_a_value() -> None:
    async def fails(number: int) -> int:
        if number % 2:
            raise KeyError(number)
        return number

    async with fan_out(fails, range(4), ordered=True) as results:
        seen = [result async for result in results]
    assert [type(r.error) for r in seen] == [type(None), KeyError, type(None), KeyError]
    assert [r.value for r in seen] == [0, None, 2, None]
    with pytest.raises(KeyError) as caught:
        seen[1].unwrap()
    assert caught.value is seen[1].error


async def test_none_is_a_value_too() -> None:
    async def nothing(item: object) -> None:
        await anyio.lowlevel.checkpoint()

    async with fan_out(nothing, [None]) as results:
        assert [(r.item, r.value, r.error) async for r in results] == [(None, None, None)]


async def test_fail_fast_collect_and_stop_early() -> None:
    calls: list[int] = []

    async def work(number: int) -> int:
        calls.append(number)
        await anyio.sleep(1)
        if number == 2:
            raise ValueError(number)
        return number

    with pytest.raises(ValueError, match="2"):  # noqa: PT012
        async with fan_out(work, range(100), limit=2, ordered=True) as results:
            async for result in results:
                result.unwrap()
    assert len(calls) <= 3 + 5
    calls.clear()
    async with fan_out(work, range(5), limit=2) as results:
        good = [r.unwrap() async for r in results if r.error is None]
    assert sorted(good) == [0, 1, 3, 4]
    calls.clear()
    async with fan_out(work, range(100), limit=2) as results:
        async for result in results:
            if result.index == 1:
                break
    seen = len(calls)
    await anyio.sleep(10)
    assert len(calls) == seen <= 4


async def test_nothing_to_do() -> None:
    async def none() -> AsyncIterator[int]:  # noqa: ASYNC900 - a source, as users write them
        for number in range(0):
            yield number

    for ordered in (False, True):
        sources: list[Any] = [[], iter([]), none()]
        for items in sources:
            async with fan_out(double, items, ordered=ordered) as results:
                assert [r async for r in results] == []
                assert [r async for r in results] == []
            async with fan_out(double, items, ordered=ordered):
                pass


async def test_after_the_last_result_the_end_stays() -> None:
    async with fan_out(double, [1]) as results:
        assert (await anext(results)).value == 2
        for _ in range(3):
            with pytest.raises(StopAsyncIteration):
                await anext(results)


# --- what it is given ---


class Sized:
    """An async source that knows its length."""

    def __len__(self) -> int:
        return 3

    def __aiter__(self) -> AsyncIterator[int]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[int]:  # noqa: ASYNC900 - a source, as users write them
        for number in range(3):
            yield number


async def test_the_total_is_known_where_the_source_has_a_length() -> None:
    async def endless() -> AsyncIterator[int]:  # noqa: ASYNC900 - a source, as users write them
        while True:
            yield 1

    cases: list[tuple[Any, int | None]] = [
        ([1, 2], 2),
        ({1: 2}, 1),
        (range(7), 7),
        (iter([1]), None),
        (Sized(), 3),
        (endless(), None),
    ]
    for items, total in cases:
        assert fan_out(double, items).statistics().total == total


def test_bad_arguments_are_told_at_once() -> None:
    with pytest.raises(TypeError, match="neither iterable nor async iterable"):
        fan_out(double, 3)  # type: ignore[arg-type]
    for limit in (True, 1.5, None, "3"):
        with pytest.raises(TypeError, match="limit"):
            fan_out(double, [], limit=limit)  # type: ignore[arg-type]
    for number in (0, -1):
        with pytest.raises(ValueError, match=r"limit|in_flight"):
            fan_out(double, [], limit=number)
    with pytest.raises(ValueError, match="buffer"):
        fan_out(double, [], buffer=-1)
    with pytest.raises(ValueError, match="ordered"):
        fan_out(double, [], window=3)
    for window in (0, -1):
        with pytest.raises(ValueError, match="window"):
            fan_out(double, [], ordered=True, window=window)
    with pytest.raises(TypeError, match="fn"):
        fan_out(3, [])  # type: ignore[arg-type]


def not_async(number: int) -> int:
    return number


async def generates(number: int) -> AsyncIterator[int]:  # noqa: ASYNC900 - what is no async function
    yield number


@pytest.mark.parametrize("fn", [not_async, generates])
async def test_a_function_that_is_not_async(fn: Any) -> None:
    async with fan_out(fn, [1]) as results:
        result = await anext(results)
    assert isinstance(result.error, TypeError)
    assert "async function" in str(result.error)
    assert fn.__name__ in str(result.error)


async def test_a_function_that_returns_an_awaitable() -> None:
    class Later:
        def __await__(self) -> Generator[Any, Any, int]:
            return double(1).__await__()

    made: list[Callable[[int], Awaitable[int]]] = [
        lambda number: double(number),
        lambda number: Later(),
    ]
    for fn in made:
        async with fan_out(fn, [1]) as results:
            assert (await anext(results)).value == 2


async def test_not_entered_entered_twice_and_left() -> None:
    results = fan_out(double, [1, 2])
    with pytest.raises(RuntimeError, match="async with"):
        await anext(results)
    async with results:
        with pytest.raises(RuntimeError, match="once"):
            async with results:
                pass
        assert (await anext(results)).value == 2
    with pytest.raises(penstock.StreamClosedError):
        await anext(results)
    with pytest.raises(RuntimeError, match="once"):
        async with results:
            pass


async def test_two_readers_at_once() -> None:
    async with anyio.create_task_group() as group, fan_out(double, [1, 2]) as results:

        async def read() -> None:
            assert (await anext(results)).value == 2

        group.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(penstock.StreamBusyError):
            await anext(results)
        await anyio.sleep(1.5)
        assert (await anext(results)).value == 4


async def test_a_reader_elsewhere_learns_that_the_block_was_left() -> None:
    heard: list[type[Exception]] = []
    async with anyio.create_task_group() as group:

        async def read() -> None:
            try:
                await anext(results)
            except penstock.StreamClosedError as error:
                heard.append(type(error))

        async with fan_out(double, [10]) as results:
            group.start_soon(read)
            await anyio.sleep(1)
    assert heard == [penstock.StreamClosedError]
    assert anyio.current_time() < 10_000


# --- the source ---


async def test_nothing_is_pulled_before_the_block() -> None:
    pulled: list[int] = []

    def source() -> Iterator[int]:
        for number in range(10):
            pulled.append(number)
            yield number

    results = fan_out(double, source(), limit=3)
    assert not pulled
    async with results:
        assert not pulled
        await anyio.sleep(0.5)
        assert pulled == [0, 1, 2]  # 0 is done: nobody has taken it


@pytest.mark.parametrize("buffer", [0, 2])
async def test_an_endless_source_is_held_back_by_the_consumer(buffer: int) -> None:
    pulled = 0

    async def source() -> AsyncIterator[int]:  # noqa: ASYNC900 - a source, as users write them
        nonlocal pulled
        while True:
            pulled += 1
            yield 0

    async with fan_out(double, source(), limit=3, buffer=buffer) as results:
        for taken in range(5):
            await anyio.sleep(1)
            assert pulled == taken + 3 + buffer
            await anext(results)


async def test_the_source_is_closed_in_the_task_that_pulled() -> None:
    tasks: set[int] = set()
    events: list[str] = []

    async def source() -> AsyncIterator[int]:  # noqa: ASYNC900 - a source, as users write them
        number = 0
        tasks.add(anyio.get_current_task().id)
        try:
            while True:
                # A scope that stays open over a yield: it is bound to its task.
                with anyio.CancelScope():
                    await anyio.sleep(0.1)
                    tasks.add(anyio.get_current_task().id)
                    number += 1
                    yield number  # noqa: ASYNC101, ASYNC119 - what is tested
        finally:
            tasks.add(anyio.get_current_task().id)
            events.append("closing")
            # Cancelled in the middle of a pull, a source has to shield what it awaits here.
            with anyio.CancelScope(shield=shielded):
                await anyio.sleep(1)  # noqa: ASYNC102 - a clean-up as users write it
                events.append("closed")

    async def at_once(number: int) -> int:
        return number

    for stop, shielded in ((0, False), (1, False), (5, False), (20, True)):
        tasks.clear()
        events.clear()
        async with fan_out(at_once, source(), limit=2) as results:
            for _ in range(stop):
                await anext(results)
            if not shielded:
                await anyio.sleep(0.55)  # the source stands at a yield now
        assert events == ["closing", "closed"]
        assert len(tasks) == 1
        assert anyio.get_current_task().id not in tasks


async def test_a_source_with_a_task_group_of_its_own() -> None:
    closed: list[int] = []

    async def source() -> AsyncIterator[int]:  # noqa: ASYNC900 - a source, as users write them
        send, receive = anyio.create_memory_object_stream[int](0)

        async def produce() -> None:
            for number in range(100):
                await send.send(number)
            send.close()

        async with anyio.create_task_group() as group:
            group.start_soon(produce)
            try:
                async with receive:
                    async for number in receive:
                        yield number  # noqa: ASYNC119 - what is tested
            finally:
                closed.append(1)
                group.cancel_scope.cancel()
                send.close()

    async def at_once(number: int) -> int:
        return number

    async with fan_out(at_once, source(), limit=3) as results:
        assert len([r async for r in results]) == 100
    # Closing such a generator raises a BaseExceptionGroup of its GeneratorExit.
    async with fan_out(at_once, source(), limit=3) as results:
        async for result in results:
            if result.index == 5:
                break
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with fan_out(at_once, source(), limit=3) as results:
            async for _ in results:
                1 / 0  # noqa: B018
    assert closed == [1, 1, 1]


async def test_a_source_whose_own_scope_is_cancelled_between_two_pulls() -> None:
    # Then whoever waits in the task is cancelled, which is us. Never a clean end.
    async def source() -> AsyncIterator[int]:  # noqa: ASYNC900 - a source, as users write them
        with anyio.move_on_after(2):
            while True:
                yield 1  # noqa: ASYNC101, ASYNC119 - what is tested

    async with fan_out(double, source(), limit=1) as results:
        with pytest.raises(RuntimeError, match="cancel"):  # noqa: PT012
            async for _ in results:
                await anyio.sleep(0.7)
    async with fan_out(double, source(), limit=1):
        await anyio.sleep(5)


async def test_a_source_whose_awaited_future_was_cancelled(anyio_backend_name: str) -> None:
    if anyio_backend_name != "asyncio":
        return

    async def source() -> AsyncIterator[int]:  # noqa: ASYNC900 - a source, as users write them
        yield 1
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.cancel()
        yield await future

    async with fan_out(double, source()) as results:
        assert (await anext(results)).value == 2
        with pytest.raises(RuntimeError, match="cancel"):
            await anext(results)


async def test_an_error_of_the_clean_up_is_not_lost() -> None:
    async def source() -> AsyncIterator[int]:  # noqa: ASYNC900 - a source, as users write them
        try:
            while True:
                yield 1
        finally:
            await anyio.sleep(0.1)  # noqa: ASYNC102 - a clean-up as users write it
            raise Odd

    with pytest.raises(Odd):
        async with fan_out(double, source()) as results:
            await anext(results)
    with pytest.raises(ZeroDivisionError):
        async with fan_out(double, source()) as results:
            1 / 0  # noqa: B018
    with anyio.CancelScope() as scope:
        async with fan_out(double, source()) as results:
            await anext(results)
            scope.cancel()
            await anyio.sleep(1)
    assert scope.cancelled_caught


async def test_an_async_iterator_without_aclose() -> None:
    class Source:
        def __init__(self) -> None:
            self.number = 0

        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> int:
            self.number += 1
            await anyio.sleep(0.1)
            if self.number > 3:
                raise StopAsyncIteration
            return self.number

    async with fan_out(double, Source()) as results:
        assert [r.value async for r in results] == [2, 4, 6]


async def test_a_sync_generator_is_closed() -> None:
    closed: list[int] = []

    def source() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(1)

    async with fan_out(double, source(), limit=2) as results:
        await anext(results)
    assert closed == [1]
    async with fan_out(double, source(), limit=2):
        await anyio.sleep(0.1)
    assert closed == [1, 1]


class Odd(Exception):
    pass


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_an_error_of_the_source_comes_in_its_place(kind: str, ordered: bool) -> None:
    boom = Odd("the source")

    def sync_source() -> Iterator[int]:
        yield 3
        yield 1
        raise boom

    async def async_source() -> AsyncIterator[int]:  # noqa: ASYNC900 - a source, as users write them
        yield 3
        await anyio.sleep(0.5)
        yield 1
        raise boom

    async with fan_out(
        double, sync_source() if kind == "sync" else async_source(), ordered=ordered
    ) as results:
        first = await anext(results)
        second = await anext(results)
        assert sorted([first.item, second.item]) == [1, 3]
        for _ in range(2):
            with pytest.raises(Odd) as caught:
                await anext(results)
            assert caught.value is boom
    with pytest.raises(Odd) as caught:  # noqa: PT012
        async with fan_out(
            double, sync_source() if kind == "sync" else async_source(), ordered=ordered
        ) as results:
            async for _ in results:
                pass
    assert caught.value is boom


async def test_a_source_that_cannot_be_iterated() -> None:
    class Broken:
        def __iter__(self) -> Iterator[int]:
            raise Odd

    async with fan_out(double, Broken()) as results:
        with pytest.raises(Odd):
            await anext(results)


@pytest.mark.parametrize("stop", [StopIteration, StopAsyncIteration])
async def test_a_source_that_raises_the_wrong_end(stop: type[Exception]) -> None:
    class Source:
        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> int:
            raise RuntimeError("wrong end") from stop()

    async with fan_out(double, Source()) as results:
        with pytest.raises(RuntimeError, match="wrong end"):
            await anext(results)


# --- cancelling and leaving ---


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_cancelled_read_loses_nothing(ordered: bool) -> None:
    seen: list[int] = []
    async with fan_out(double, range(10), limit=3, ordered=ordered) as results:
        while True:
            with anyio.move_on_after(0.3):
                try:
                    seen.append((await anext(results)).index)
                except StopAsyncIteration:
                    break
    assert sorted(seen) == list(range(10))
    assert not ordered or seen == list(range(10))


async def test_a_reader_without_patience_sees_the_end_as_well() -> None:
    seen: list[int] = []
    async with fan_out(double, [1, 2]) as results:
        for _ in range(100):
            with anyio.move_on_after(0):
                try:
                    seen.append((await anext(results)).item)
                except StopAsyncIteration:
                    break
            await anyio.sleep(0.25)
        else:
            raise AssertionError
    assert seen == [1, 2]


async def test_cancelled_results_never_look_complete() -> None:
    # The calls may be over before the reader hears of the cancellation that ended them.
    async def never(number: int) -> None:
        await anyio.sleep_forever()

    heard: list[object] = []
    for moment in (0.0, 1.0):
        async with anyio.create_task_group() as group:

            async def read(results: Any) -> None:
                try:
                    heard.append([result async for result in results])
                except penstock.StreamClosedError as error:
                    heard.append(error)

            with anyio.CancelScope() as scope:
                async with fan_out(never, range(3)) as results:
                    group.start_soon(read, results)  # noqa: ASYNC111 - a reader that outlives the block
                    await anyio.sleep(moment)
                    scope.cancel()
                    with anyio.CancelScope(shield=True):
                        await anyio.sleep(5)
    assert len(heard) == 2
    assert all(isinstance(each, penstock.StreamClosedError) for each in heard)


async def test_leaving_waits_for_the_cleanup_of_every_call() -> None:
    cleaned: list[int] = []

    async def slow(number: int) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(number)
            cleaned.append(number)

    async with fan_out(slow, [1, 2, 3]):
        await anyio.sleep(1)
    assert cleaned == [1, 2, 3]


async def test_a_call_that_was_not_begun_when_the_block_was_left_never_begins() -> None:
    begun: list[int] = []

    async def work(number: int) -> int:
        begun.append(number)
        return number

    def source() -> Iterator[int]:
        for number in range(100):
            yield number
            leave.set()

    for _ in range(20):
        begun.clear()
        leave = anyio.Event()
        async with fan_out(work, source(), limit=50):
            await leave.wait()
            left_with = list(begun)
        assert begun == left_with


async def test_nothing_is_pulled_when_a_slot_comes_free_as_the_block_is_left() -> None:
    # The slot is given back and the block left in the same turn of the loop: the feeder is
    # about to run, and a cancellation does not reach a task that is.
    pulled: list[int] = []

    def source() -> Iterator[int]:
        for number in range(100):
            pulled.append(number)
            yield number

    async def forever(number: int) -> None:
        await anyio.sleep_forever()

    for turns in range(4):
        pulled.clear()
        limiter = Limiter(2)
        slot = await limiter.acquire()
        async with fan_out(forever, source(), limit=limiter):
            await anyio.sleep(1)
            assert pulled == [0]
            slot.release()
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            pulled.clear()
        assert not pulled
        assert limiter.statistics().in_flight == 0


async def test_a_call_whose_future_was_cancelled(anyio_backend_name: str) -> None:
    async def awaits_a_cancelled_future(number: int) -> int:
        if number == 1:
            future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            future.cancel()
            return await future
        await anyio.sleep(1)
        return number

    async def awaits_a_cancelled_scope(number: int) -> int:
        if number == 1:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await anyio.sleep(1)
            raise Odd
        await anyio.sleep(1)
        return number

    on_asyncio = anyio_backend_name == "asyncio"
    fn = awaits_a_cancelled_future if on_asyncio else awaits_a_cancelled_scope
    async with fan_out(fn, range(3), ordered=True) as results:
        seen = [result async for result in results]
    assert [r.value for r in seen] == [0, None, 2]
    assert isinstance(seen[1].error, RuntimeError if on_asyncio else Odd)
    if on_asyncio:
        assert "cancel" in str(seen[1].error)


async def test_a_call_whose_task_is_cancelled_by_somebody_else(anyio_backend_name: str) -> None:
    if anyio_backend_name != "asyncio":
        return

    async def cancels_its_task(number: int) -> int:
        if number == 1:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        await anyio.sleep(1)
        return number

    async with fan_out(cancels_its_task, range(3), ordered=True) as results:
        seen = [result async for result in results]
    assert [r.value for r in seen] == [0, None, 2]
    assert isinstance(seen[1].error, RuntimeError)


# --- statistics ---


def test_statistics_before_the_block() -> None:
    assert fan_out(double, [1, 2]).statistics() == FanOutStatistics(
        total=2,
        pulled=0,
        running=0,
        waiting=0,
        held_back=0,
        done=0,
        failed=0,
        delivered=0,
        blocked_on_consumer=0.0,
    )


async def test_statistics_of_a_run() -> None:
    async def work(seconds: float) -> None:
        await anyio.sleep(seconds)
        if seconds == 2:
            raise Odd

    async with fan_out(work, [4, 1, 2, 5, 6], limit=3, ordered=True, window=3) as results:
        await anyio.sleep(3)
        # 1 and 2 are done, but 4 is not: 5 was started in the place of 1, and the window is full.
        assert results.statistics() == FanOutStatistics(
            total=5,
            pulled=4,
            running=2,
            waiting=2,
            held_back=2,
            done=2,
            failed=1,
            delivered=0,
            blocked_on_consumer=0.0,
        )
        await anyio.sleep(1.5)  # at 4.5; since 4 results wait to be taken, and nothing is pulled
        now = results.statistics()
        assert (now.waiting, now.held_back, now.running, now.done) == (3, 0, 1, 3)
        assert now.blocked_on_consumer == pytest.approx(0.5)
        await anext(results)
        now = results.statistics()
        assert (now.waiting, now.held_back, now.delivered) == (2, 0, 1)
        await anyio.sleep(0.25)  # one more was pulled, and the window is full again
        now = results.statistics()
        assert (now.pulled, now.running) == (5, 2)
        assert now.blocked_on_consumer == pytest.approx(0.75)
        assert len([r async for r in results]) == 4
    now = results.statistics()
    assert (now.pulled, now.done, now.failed, now.delivered) == (5, 5, 1, 5)
    assert (now.running, now.waiting, now.held_back) == (0, 0, 0)
    assert now.blocked_on_consumer == pytest.approx(0.75)


async def test_blocked_only_while_results_wait_to_be_taken() -> None:
    async with fan_out(double, [5, 5, 5, 5], limit=2) as results:
        await anyio.sleep(4)
        assert results.statistics().blocked_on_consumer == 0  # no result yet
        await anyio.sleep(4)
        assert results.statistics().blocked_on_consumer == pytest.approx(3)
        assert results.statistics().running == 0
    assert results.statistics().blocked_on_consumer == pytest.approx(3)
    blocked = results.statistics()
    await anyio.sleep(5)
    assert results.statistics().blocked_on_consumer == blocked.blocked_on_consumer
    # A consumer that waits is never what holds the work back.
    async with fan_out(double, [1] * 50, limit=2) as results:
        async for _ in results:
            assert results.statistics().blocked_on_consumer == 0


def test_statistics_can_be_read_when_the_loop_is_gone() -> None:
    async def main() -> Any:
        async with fan_out(double, [1, 1], limit=1) as results:
            await anyio.sleep(3)
        return results

    results = anyio.run(main, backend_options=virtual("asyncio")[1])
    assert results.statistics().blocked_on_consumer == pytest.approx(2)


# --- with clients and limiters ---


def answers(*texts: str) -> Reply:
    return sse_reply(tokens(*texts))


async def test_completions() -> None:
    def script(request: RecordedRequest) -> Reply:
        if request.json["messages"][0]["content"] == "3":
            return error_reply(400, "not this one")
        return answers(request.json["messages"][0]["content"]).after(0.5)

    network = MemoryNetwork(script)
    async with client_on(network) as client:
        requests = (
            {"model": "m", "messages": [{"role": "user", "content": str(n)}]} for n in range(8)
        )
        async with fan_out(client.complete, requests, limit=3, ordered=True) as results:
            async for result in results:
                if result.index == 3:
                    assert isinstance(result.error, penstock.BadRequestError)
                    continue
                assert result.unwrap().choices[0].message.content == str(result.index)
        assert len(network.connections) == 3
    assert network.open_connections == 0


async def test_every_sibling_is_closed_when_the_block_is_left() -> None:
    network = MemoryNetwork(sse_reply([*tokens("a", finish=None), Pause(100), *tokens("b")]))
    async with client_on(network) as client:
        async with fan_out(client.complete, [REQUEST] * 20, limit=5):
            await anyio.sleep(1)
            assert network.open_connections == 5
        assert network.open_connections == 0
        assert len(network.requests) == 5


async def test_the_limit_of_an_adaptive_limiter_is_followed() -> None:
    limiter = Limiter(4, adaptive=True)
    running = 0

    async def work(number: int) -> None:
        nonlocal running
        running += 1
        assert running <= 4
        await anyio.sleep(1)
        running -= 1

    async with fan_out(work, range(20), limit=limiter) as results:
        assert len([r async for r in results]) == 20
    assert limiter.statistics().in_flight == 0
