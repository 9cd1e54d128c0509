"""Promise 7 with several event loops and threads in one process.

A fan-out's function goes into another thread, and there into another event loop: by a blocking
client, by asyncio.run or trio.run, by a portal, and back. The context variable with the slot that
is lent goes along. Nothing hangs, no slot is lost, and no more are in flight than the limit says.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Literal, get_args

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import AsyncClient, Client, Limiter, blocking, fan_out
from penstock.testing.plugin import real_backend as anyio_backend
from penstock.testing.replies import completion, error_reply, json_reply, sse_reply, tokens
from penstock.testing.script import RecordedRequest, Reply
from penstock.testing.server import Server, serve_in_thread
from tests.support.chat import REQUEST

from .evidence import count

__all__ = ["anyio_backend"]

# A hang is what these look for.
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

How = Literal["blocking client", "asyncio.run", "trio.run", "portal", "back to the same loop"]
HOWS: list[How] = list(get_args(How))


class Script:
    """Refuses the n-th request, and counts those that it works on at a time."""

    def __init__(self, refused: int) -> None:
        self._numbers = itertools.count()
        self._refused = refused

    def __call__(self, request: RecordedRequest) -> Reply:
        if next(self._numbers) == self._refused:
            return error_reply(429, "later", headers={"retry-after-ms": "30"})
        if request.json.get("stream"):
            return sse_reply(tokens("a"))
        return json_reply(completion("a"))


@contextlib.contextmanager
def serving(refused: int = 1) -> Iterator[Server]:
    with serve_in_thread(Script(refused)) as server:
        yield server


async def ask(url: str, limiter: Limiter | None = None) -> Any:
    async with AsyncClient(url, api_key="k", limiter=limiter) as client:
        return await client.complete(REQUEST)


def in_a_loop_of_its_own(how: How, url: str, limiter: Limiter | None = None) -> Any:
    """What a worker thread does that wants an answer."""
    if how == "blocking client":
        with Client(url, api_key="k", limiter=limiter) as client:
            return client.complete(REQUEST)
    if how == "asyncio.run":
        return asyncio.run(ask(url, limiter))
    if how == "trio.run":
        return anyio.run(ask, url, limiter, backend="trio")
    if how == "portal":
        with anyio.from_thread.start_blocking_portal() as portal:
            return portal.call(ask, url, limiter)
    return anyio.from_thread.run(ask, url, limiter)


def function(how: How, url: str, limiter: Limiter | None) -> Callable[[int], Awaitable[Any]]:
    async def call(item: int) -> Any:
        return await anyio.to_thread.run_sync(in_a_loop_of_its_own, how, url, limiter)

    return call


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("limit", [1, 3])
@pytest.mark.parametrize("how", HOWS)
async def test_a_function_that_goes_into_another_loop(how: How, limit: int, ordered: bool) -> None:
    count("cases")
    limiter = Limiter(limit)
    with serving() as server:
        buffer = 0 if ordered else 4
        async with fan_out(
            function(how, server.base_url, None),
            range(6),
            limit=limiter,
            ordered=ordered,
            buffer=buffer,
        ) as results:
            seen = [result async for result in results]
    assert sorted(result.index for result in seen) == [*range(6)]
    assert [result.error for result in seen if result.error] == []
    assert (limiter.statistics().in_flight, limiter.statistics().waiting) == (0, 0)
    # The slot lent in this loop is used there alone.
    assert limiter.statistics().refused == (how == "back to the same loop")


@pytest.mark.parametrize("how", HOWS)
async def test_the_limiter_of_another_loop_is_refused_and_nothing_hangs(how: How) -> None:
    limiter = Limiter(2)
    with serving(refused=99) as server:
        async with fan_out(
            function(how, server.base_url, limiter), range(4), limit=limiter
        ) as all_:
            errors = [result.error async for result in all_]
    if how == "back to the same loop":
        assert errors == [None] * 4
    else:
        assert all(isinstance(error, RuntimeError) for error in errors)
        assert all("event loop" in str(error) for error in errors)
    assert (limiter.statistics().in_flight, limiter.statistics().waiting) == (0, 0)


@pytest.mark.parametrize("how", [how for how in HOWS if how != "back to the same loop"])
@pytest.mark.parametrize("shared", [True, False])
def test_a_worker_of_a_blocking_fan_out_that_goes_into_another_loop(how: How, shared: bool) -> None:
    count("cases")
    limiter = Limiter(2)
    with serving() as server:

        def call(item: int) -> Any:
            # All blocking clients are in one loop, and may share a limiter.
            inner = limiter if shared and how == "blocking client" else None
            return in_a_loop_of_its_own(how, server.base_url, inner)

        with blocking.fan_out(call, range(6), limit=limiter, buffer=2) as results:
            errors = [result.error for result in results]
    assert errors == [None] * 6
    assert (limiter.statistics().in_flight, limiter.statistics().waiting) == (0, 0)


def test_the_call_that_the_how_to_recommends(anyio_backend: Any) -> None:
    name, options = anyio_backend
    with serving(refused=0) as server, Client(server.base_url, api_key="k") as client:

        async def call(item: int) -> Any:
            return await anyio.to_thread.run_sync(client.complete, REQUEST)

        async def main() -> list[Exception | None]:
            async with fan_out(call, range(8), limit=2, buffer=4) as results:
                return [result.error async for result in results]

        assert anyio.run(main, backend=name, backend_options=options) == [None] * 8


# --- one limiter, two loops ---


@pytest.mark.parametrize("waits", ["holds", "waits"])
def test_in_use_in_one_loop_it_is_refused_in_another(waits: str, anyio_backend: Any) -> None:
    name, options = anyio_backend
    limiter = Limiter(1)
    used, done = threading.Event(), threading.Event()

    async def use() -> None:
        async with anyio.create_task_group() as group, limiter:
            if waits == "waits":
                group.start_soon(enter)
                await anyio.sleep(0.01)
            used.set()
            await anyio.to_thread.run_sync(done.wait)

    async def enter() -> None:
        async with limiter:
            pass

    first = threading.Thread(target=lambda: anyio.run(use, backend=name, backend_options=options))
    first.start()
    assert used.wait(10)
    for backend in ("asyncio", "trio"):
        with pytest.raises(RuntimeError, match="a Limiter of its own"):
            anyio.run(enter, backend=backend)
    done.set()
    first.join(10)
    # Nobody uses it any more: it moves.
    for backend in ("asyncio", "trio", "asyncio"):
        anyio.run(enter, backend=backend)
    assert (limiter.statistics().in_flight, limiter.statistics().granted) == (
        0,
        4 + (waits == "waits"),
    )


def test_a_fan_out_and_a_client_say_so_as_well() -> None:
    limiter = Limiter(1)
    slot: list[Any] = []

    async def hold() -> None:
        slot.append(await limiter.acquire())
        with pytest.raises(RuntimeError, match="a Limiter of its own"):
            await anyio.to_thread.run_sync(asyncio.run, use_a_client())
        with pytest.raises(RuntimeError, match="a Limiter of its own"):
            await anyio.to_thread.run_sync(asyncio.run, use_a_fan_out())
        slot[0].release()

    async def use_a_client() -> None:
        async with AsyncClient("http://127.0.0.1:9", api_key="k", limiter=limiter) as client:
            await client.complete(REQUEST)

    async def use_a_fan_out() -> None:
        async with fan_out(ask, [""], limit=limiter) as results:
            async for _ in results:
                pass

    asyncio.run(hold())


def test_a_slot_that_is_released_in_another_thread_wakes_the_waiter(anyio_backend: Any) -> None:
    name, options = anyio_backend
    limiter = Limiter(1)

    async def main() -> None:
        slot = await limiter.acquire()
        async with anyio.create_task_group() as group:

            async def wait() -> None:
                async with limiter:
                    pass

            group.start_soon(wait)
            await anyio.sleep(0.01)
            # As the garbage collector does, in any thread.
            await anyio.to_thread.run_sync(slot.release)
        assert limiter.statistics().in_flight == 0

    anyio.run(main, backend=name, backend_options=options)


def test_a_loop_that_ended_with_slots_held_and_awaited_stops_nobody(anyio_backend: Any) -> None:
    name, options = anyio_backend
    limiter = Limiter(2)
    kept: list[Any] = []

    async def main() -> None:
        kept.append(await limiter.acquire())

    async def again() -> None:
        async with limiter:
            assert limiter.statistics().in_flight == 2

    anyio.run(main, backend=name, backend_options=options)
    anyio.run(again, backend=name, backend_options=options)
    kept[0].release()
    assert limiter.statistics().in_flight == 0


async def test_many_threads_with_loops_and_limiters_of_their_own() -> None:
    with serving(refused=5) as server:

        async def agent(url: str) -> int:
            limiter = Limiter(2)
            async with (
                AsyncClient(url, api_key="k", limiter=limiter) as client,
                fan_out(client.complete, [REQUEST] * 3, limit=limiter) as results,
            ):
                return len([result.unwrap() async for result in results])

        async def call(item: int) -> int:
            backend = "trio" if item % 2 else "asyncio"
            run = anyio.run
            return await anyio.to_thread.run_sync(
                lambda: run(agent, server.base_url, backend=backend)
            )

        async with fan_out(call, range(8), limit=4) as results:
            assert [result.unwrap() async for result in results] == [3] * 8


# --- any nesting of them ---

Way = Literal["here", "asyncio.run", "trio.run", "portal", "back to the same loop"]
levels = st.lists(
    st.tuples(
        st.sampled_from(list(get_args(Way))),  # how an item comes to the next level
        st.integers(1, 2),  # at most so many at once
        st.integers(1, 3),  # items
        st.booleans(),  # the limiter of the level above, where it is in the same loop
        st.booleans(),  # ordered
    ),
    min_size=1,
    max_size=3,
)


class Nest:
    """Fan-outs inside of each other's functions; at the bottom each item asks the server."""

    def __init__(self, url: str, made: list[tuple[Way, int, int, bool, bool]]) -> None:
        self.url = url
        self.made = made
        self.limiters: list[Limiter] = []

    async def level(self, depth: int, above: Limiter | None) -> int:
        """Run one fan-out; gives how many answers came of it."""
        if depth == len(self.made):
            async with AsyncClient(self.url, api_key="k", limiter=above) as client:
                await client.complete(REQUEST)
            return 1
        way, limit, items, shared, ordered = self.made[depth]
        limiter = above if shared and above is not None else Limiter(limit)
        self.limiters.append(limiter)

        async def call(item: int) -> int:
            if way == "here":
                return await self.level(depth + 1, limiter)
            return await anyio.to_thread.run_sync(self.from_a_thread, way, depth + 1, limiter)

        async with fan_out(call, range(items), limit=limiter, ordered=ordered) as results:
            return sum([result.unwrap() async for result in results])

    def from_a_thread(self, way: Way, depth: int, limiter: Limiter) -> int:
        if way == "asyncio.run":
            return asyncio.run(self.level(depth, None))
        if way == "trio.run":
            return anyio.run(self.level, depth, None, backend="trio")
        if way == "portal":
            with anyio.from_thread.start_blocking_portal() as portal:
                return portal.call(self.level, depth, None)
        return anyio.from_thread.run(self.level, depth, limiter)


@settings(max_examples=settings().max_examples // 5)
@given(made=levels, refused=st.integers(0, 8), backend=st.sampled_from(["asyncio", "trio"]))
def test_any_nesting_of_loops_threads_and_fan_outs(
    made: list[tuple[Way, int, int, bool, bool]], refused: int, backend: str
) -> None:
    count("examples")
    with serving(refused) as server:
        nest = Nest(server.base_url, made)

        async def main() -> int:
            with anyio.fail_after(30):  # a hang
                return await nest.level(0, None)

        answers = anyio.run(main, backend=backend)
    assert answers == math.prod(items for _, _, items, _, _ in made)
    for limiter in nest.limiters:
        assert (limiter.statistics().in_flight, limiter.statistics().waiting) == (0, 0)
