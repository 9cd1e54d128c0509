"""What threads share, used by all of them at once: limiters, clients, statistics.

On a build of CPython without the global interpreter lock they really run at the same time.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

import penstock
from penstock import Client, Limiter, Spread, blocking
from penstock.testing import serve_in_thread, text_reply
from tests.support.chat import REQUEST, client_on

THREADS = 8
HELLO = text_reply("Hel", "lo")


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def at_once(function: Callable[[], Any]) -> list[Any]:
    """Call it in THREADS threads, which begin together; return what it returned, or raised."""
    start = threading.Barrier(THREADS)
    ended: list[Any] = []

    def run() -> None:
        start.wait()
        try:
            ended.append(function())
        except Exception as error:  # noqa: BLE001 - compared by the test
            ended.append(error)

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ended


@contextmanager
def looking(*statistics: Callable[[], Any]) -> Generator[None]:
    """Read these statistics in another thread, again and again; raise what that raises."""
    done = threading.Event()
    failed: list[Exception] = []

    def look() -> None:
        try:
            while not done.is_set():
                for read in statistics:
                    read()
        except Exception as error:  # noqa: BLE001 - raised below
            failed.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if failed:
        raise failed[0]


@pytest.mark.parametrize("rates", [{}, {"requests_per_minute": 1_000_000}])
def test_blocking_clients_keep_a_shared_limit(rates: dict[str, Any]) -> None:
    limiter = Limiter(3, **rates)
    with serve_in_thread(HELLO) as server, Client(server.base_url, limiter=limiter) as shared:

        def ask() -> list[str | None]:
            with Client(server.base_url, limiter=limiter) as own:
                return [
                    client.complete(REQUEST).choices[0].message.content
                    for client in (own, shared) * 5
                ]

        with looking(limiter.statistics, shared.statistics):
            assert at_once(ask) == [["Hello"] * 10] * THREADS
        counted, figures = limiter.statistics(), shared.statistics()
    assert (counted.in_flight, counted.waiting, counted.granted) == (0, 0, 10 * THREADS)
    assert (figures.calls, figures.attempts, figures.completed) == (5 * THREADS,) * 3
    assert figures.open_calls == 0


def test_threads_share_a_spread_and_an_observer() -> None:
    started: list[int] = []
    outcomes: list[str] = []
    observer = SimpleNamespace(
        request_started=lambda event: started.append(event.id),
        finished=lambda event: outcomes.append(event.outcome),
    )
    limiter = Limiter(5, tokens_per_minute=10_000_000)
    with ExitStack() as stack:
        servers = [stack.enter_context(serve_in_thread(HELLO)) for _ in range(3)]
        urls = [server.base_url for server in servers]
        clients = [Client(url, limiter=limiter, observer=observer) for url in urls]
        spread = stack.enter_context(blocking.Spread(clients))

        async def ask_here() -> list[str | None]:
            async with penstock.AsyncClient(urls[0], observer=observer) as own:
                asked = penstock.fan_out(own.complete, [REQUEST] * 10)
                async with asked as results:
                    return [r.unwrap().choices[0].message.content async for r in results]

        kinds = itertools.cycle(["asyncio", "trio"])

        def ask() -> list[str | None]:
            answers = [
                spread.complete(REQUEST, session=str(number % 4)).choices[0].message.content
                for number in range(10)
            ]
            return answers + anyio.run(ask_here, backend=next(kinds))

        with looking(limiter.statistics, spread.statistics):
            assert at_once(ask) == [["Hello"] * 20] * THREADS
        assert spread.statistics().open_calls == 0
    assert (limiter.statistics().in_flight, limiter.statistics().granted) == (0, 10 * THREADS)
    assert outcomes == ["completed"] * 20 * THREADS
    assert len(set(started)) == len(started) == 20 * THREADS


def test_one_of_many_event_loops_gets_a_limiter() -> None:
    for _ in range(50):
        limiter = Limiter(THREADS)
        tried = threading.Barrier(THREADS)

        def claim(limiter: Limiter = limiter, tried: threading.Barrier = tried) -> str:
            async def enter() -> str:
                async with limiter:
                    tried.wait()
                    return "in"

            try:
                return asyncio.run(enter())
            except RuntimeError:
                tried.wait()
                return "refused"

        assert sorted(at_once(claim)) == ["in"] + ["refused"] * (THREADS - 1)
        assert limiter.statistics().in_flight == 0


def test_threads_with_an_event_loop_each_share_nothing() -> None:
    def ask() -> list[str | None]:
        async def main() -> list[str | None]:
            async with client_on(HELLO, limiter=Limiter(5)) as client:
                asked = penstock.fan_out(client.complete, [REQUEST] * 30)
                async with asked as results:
                    return [r.unwrap().choices[0].message.content async for r in results]

        return asyncio.run(main())

    assert at_once(ask) == [["Hello"] * 30] * THREADS


def test_event_loops_with_other_clocks_read_a_limiters_time() -> None:
    clock = Limiter(1).line.clock
    begun = clock.now()

    async def look() -> float:
        return max(clock.now() - begun for _ in range(5000))

    kinds = itertools.cycle(["asyncio", "trio"])
    # trio's clock begins at a random time, hours from others.
    furthest = at_once(lambda: anyio.run(look, backend=next(kinds)))
    assert max(furthest) < 1000


def test_statistics_are_read_in_any_thread() -> None:
    async def main() -> None:
        limiter = Limiter(5, tokens_per_minute=10_000_000)
        clients = [client_on(HELLO, limiter=limiter) for _ in range(3)]
        async with Spread(clients) as spread:
            patient = clients[0].with_options(max_retries=5)
            each = [client.statistics for client in (*clients, patient)]
            with looking(limiter.statistics, *each):
                for number in range(20):
                    # Derived clients come and go while they are counted.
                    derived = clients[0].with_options(max_retries=number)
                    await derived.complete(REQUEST)
                    asked = penstock.fan_out(spread.complete, [REQUEST] * 20)
                    async with asked as results:
                        assert [result.error async for result in results] == [None] * 20
            assert sum(client.statistics().calls for client in clients) >= 400
            assert spread.statistics().open_calls == 0
            assert limiter.statistics().granted == 420

    asyncio.run(main())
