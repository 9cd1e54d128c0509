from __future__ import annotations

import socket
import threading
import time
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from penstock import AsyncClient, ConnectTimeout, Timeouts, fan_out
from penstock._http.dial import Dialer
from penstock._http.lookup import Lookups, literal_address
from penstock._http.network import ConnectionFailed
from penstock._policy.deadlines import ConnectDeadline
from penstock._wire.url import Origin
from penstock.testing.answers import text_reply
from penstock.testing.lookups import slow_lookups
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.server import serve_in_thread
from tests.support.chat import REQUEST

from .sockets import run

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

HOP = Origin("http", "slow.test", 80)
FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 80))]


class Resolver:
    """Takes its time, and knows how often it was asked and how often it was broken off."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.asked = 0
        self.cancelled = 0
        self.error: Exception | None = None
        monkeypatch.setattr(anyio, "getaddrinfo", self._answer)

    async def _answer(self, host: str, port: int, **more: Any) -> list[Any]:
        self.asked += 1
        try:
            await anyio.sleep(self.seconds)
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return FOUND


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    return Resolver(monkeypatch)


async def test_those_that_wait_at_the_same_time_share_it(resolver: Resolver) -> None:
    lookups = Lookups()
    async with anyio.create_task_group() as group:

        async def resolve() -> None:
            assert await lookups.resolve(HOP) == [("10.0.0.1", socket.AF_INET)]
            assert anyio.current_time() == before + 1

        before = anyio.current_time()
        for _ in range(600):
            group.start_soon(resolve)
    assert resolver.asked == 1
    # What it found is not kept.
    await lookups.resolve(HOP)
    assert resolver.asked == 2
    assert not lookups._running


async def test_other_hosts_and_ports_have_their_own(resolver: Resolver) -> None:
    lookups = Lookups()
    async with anyio.create_task_group() as group:
        for hop in (HOP, Origin("http", "other.test", 80), Origin("http", "slow.test", 81)):
            group.start_soon(lookups.resolve, hop)
    assert resolver.asked == 3


@pytest.mark.parametrize("leaver", [0, 1, 2])
async def test_a_cancelled_one_does_not_disturb_the_others(resolver: Resolver, leaver: int) -> None:
    lookups = Lookups()
    found: list[int] = []
    async with anyio.create_task_group() as group:

        async def resolve(number: int) -> None:
            with anyio.move_on_after(0.5 if number == leaver else 5):
                await lookups.resolve(HOP)
                found.append(number)

        for number in range(3):
            group.start_soon(resolve, number)
    assert len(found) == 2
    assert leaver not in found
    assert (resolver.asked, resolver.cancelled) == (1, 0)


async def test_the_last_to_leave_breaks_it_off(resolver: Resolver) -> None:
    lookups = Lookups()
    resolver.seconds = 100
    async with anyio.create_task_group() as group:
        for seconds in (1, 2, 3):

            async def resolve(seconds: float = seconds) -> None:
                with anyio.move_on_after(seconds):
                    await lookups.resolve(HOP)

            group.start_soon(resolve)
        await anyio.sleep(2.5)
        assert resolver.cancelled == 0
    await anyio.lowlevel.checkpoint()
    await anyio.lowlevel.checkpoint()
    assert (resolver.asked, resolver.cancelled) == (1, 1)
    assert not lookups._running
    # Whoever comes now gets a new one, not the one that was cancelled.
    resolver.seconds = 1
    assert await lookups.resolve(HOP)
    assert resolver.asked == 2


async def test_one_that_comes_while_it_is_being_broken_off(resolver: Resolver) -> None:
    lookups = Lookups()
    with anyio.move_on_after(0.5):
        await lookups.resolve(HOP)
    assert await lookups.resolve(HOP) == [("10.0.0.1", socket.AF_INET)]
    assert resolver.asked == 2


@pytest.mark.parametrize(
    "error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")]
)
async def test_a_failure_is_everybody_s(resolver: Resolver, error: Exception) -> None:
    lookups = Lookups()
    resolver.error = error
    caught: list[ConnectionFailed] = []
    async with anyio.create_task_group() as group:

        async def resolve() -> None:
            with pytest.raises(ConnectionFailed, match=r"cannot resolve slow\.test") as info:
                await lookups.resolve(HOP)
            caught.append(info.value)

        for _ in range(3):
            group.start_soon(resolve)
    assert len(set(map(id, caught))) == 3
    assert resolver.asked == 1


async def test_a_bug_is_raised_as_it_is(resolver: Resolver) -> None:
    resolver.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await Lookups().resolve(HOP)


async def test_the_deadline_of_connecting_ends_the_wait(resolver: Resolver) -> None:
    resolver.seconds = 100
    timeouts = Timeouts(connect=3)
    before = anyio.current_time()
    deadline = ConnectDeadline(timeouts, now=before, total_at=float("inf"))
    with pytest.raises(ConnectTimeout):
        await Dialer(HOP).dial(deadline)
    assert anyio.current_time() == before + 3


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_600_connections_through_a_slow_resolver(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On real threads: the event loop's, which are few."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *args: Any, **more: Any) -> list[Any]:
        if "test" not in str(host):
            return real(host, port, *args, **more)
        asked.append(host)
        time.sleep(0.15)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def main() -> None:
        timeouts = Timeouts(connect=5)
        dialer = Dialer(Origin("http", "slow.test", listener.getsockname()[1]))

        async def dial() -> None:
            deadline = ConnectDeadline(timeouts, now=anyio.current_time(), total_at=float("inf"))
            stream = await dialer.dial(deadline)
            await stream.aclose(0)

        async with anyio.create_task_group() as group:
            for _ in range(600):
                group.start_soon(dial)

    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listener:

        def accept() -> None:
            for _ in range(600):
                listener.accept()[0].close()

        thread = threading.Thread(target=accept)
        thread.start()
        run((backend, {}), main)
        thread.join(10)
    assert len(asked) <= 2


def test_a_fan_out_through_slow_look_ups_on_uvloop() -> None:
    # A look-up is slower than a connection may be, but for 200 of them one after the other.
    async def main() -> list[str | None]:
        url = server.base_url.replace("127.0.0.1", "slow.test")
        limits = Timeouts(connect=2)
        async with (
            AsyncClient(url, api_key="k", proxy="", timeouts=limits) as client,
            fan_out(client.complete, [REQUEST] * 200, limit=100) as results,
        ):
            return [result.unwrap().text async for result in results]

    with serve_in_thread(text_reply("Hi")) as server, slow_lookups(0.2) as lookups:
        answers = run(("asyncio", {"use_uvloop": True}), main)
    assert answers == ["Hi"] * 200
    assert len(lookups.names) < 20


def test_an_address_is_not_looked_up() -> None:
    assert literal_address(Origin("http", "::1", 80)) == [("::1", socket.AF_INET6)]
    assert literal_address(Origin("http", "10.0.0.1", 80)) == [("10.0.0.1", socket.AF_INET)]
    assert literal_address(HOP) == []
