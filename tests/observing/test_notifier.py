"""Who is told: one observer or several, those of the process, and what each may do."""

from __future__ import annotations

import contextvars
from collections.abc import Generator, Mapping
from typing import Any

import pytest

from penstock import Client, Spread
from penstock.observing import (
    Finished,
    Observer,
    RequestStarted,
    add_observer,
    remove_observer,
)
from penstock.observing.notifier import METHODS, Notifier
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import error_reply, sse_reply, tokens
from penstock.testing.server import serve_in_thread
from tests.support.chat import KEY, REQUEST, Watcher, client_on

__all__ = ["anyio_backend"]

HELLO = sse_reply(tokens("Hello"))


def test_an_observer_with_none_of_them_is_refused() -> None:
    for observer in (object(), "text", type("Typo", (), {"finish": print})()):
        with pytest.raises(TypeError, match="request_started"):
            Notifier(observer)


def test_nobody_listens_to_what_is_missing() -> None:
    notifier = Notifier(type("One", (), {"finished": print})())
    assert notifier.wants("finished")
    assert not notifier.wants("first_token")


def test_what_is_inherited_from_the_protocol_is_not_called() -> None:
    class Own(Observer):
        def finished(self, event: Finished, /) -> None:
            """Overridden."""

    notifier = Notifier(Own())
    assert [name for name in METHODS if notifier.wants(name)] == ["finished"]


@pytest.mark.anyio
async def test_several_are_told_the_same() -> None:
    several = [Watcher(), Watcher()]
    async with client_on(MemoryNetwork(HELLO), observer=several) as client:
        await client.complete(REQUEST)
    assert several[0].events == several[1].events
    assert several[0].outcomes() == ["completed"]


@pytest.mark.anyio
async def test_one_that_raises_keeps_nothing_from_the_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken:
        def finished(self, event: Finished) -> None:
            raise ZeroDivisionError

    watcher = Watcher()
    async with client_on(MemoryNetwork(HELLO), observer=[Broken(), watcher]) as client:
        for _ in range(3):
            await client.complete(REQUEST)
    assert watcher.outcomes() == ["completed"] * 3
    assert len([each for each in caplog.records if each.name == "penstock.observer"]) == 1


@pytest.mark.anyio
async def test_one_that_raises_is_logged_once_by_all_clients(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken:
        def request_started(self, event: RequestStarted) -> None:
            raise ZeroDivisionError

        def finished(self, event: Finished) -> None:
            raise ZeroDivisionError

    broken = Broken()
    for _ in range(2):
        async with (
            client_on(MemoryNetwork(error_reply(503)), observer=Watcher()) as first,
            client_on(MemoryNetwork(HELLO), observer=broken) as second,
        ):
            spread = Spread([first, second])
            await spread.complete(REQUEST)
            await second.complete(REQUEST)
    assert [each.getMessage().split()[2] for each in caplog.records] == [
        "request_started",
        "finished",
    ]


@pytest.fixture
def added() -> Generator[Watcher]:
    watcher = Watcher()
    add_observer(watcher)
    yield watcher
    remove_observer(watcher)
    remove_observer(watcher)


@pytest.mark.anyio
async def test_those_of_the_process_are_told_by_every_client_made_since(added: Watcher) -> None:
    own = Watcher()
    async with (
        client_on(MemoryNetwork(HELLO)) as first,
        client_on(MemoryNetwork(HELLO), observer=own) as second,
    ):
        await first.complete(REQUEST)
        await second.complete(REQUEST)
    assert added.outcomes() == ["completed"] * 2
    assert own.outcomes() == ["completed"]
    remove_observer(added)
    async with client_on(MemoryNetwork(HELLO)) as third:
        await third.complete(REQUEST)
    assert added.outcomes() == ["completed"] * 2


def test_only_an_observer_can_be_added() -> None:
    with pytest.raises(TypeError, match="request_started"):
        add_observer(object())


class Tracing(Watcher):
    def __init__(self, headers: Any) -> None:
        super().__init__()
        self.asked = 0
        self._headers = headers

    def request_headers(self, event: RequestStarted) -> Mapping[str, str]:
        self.asked += 1
        given: Mapping[str, str] = self._headers
        return given


@pytest.mark.anyio
async def test_headers_go_out_with_every_attempt() -> None:
    network = MemoryNetwork([error_reply(500), HELLO])
    observer = Tracing({"traceparent": "00-1-2-01", "User-Agent": "mine"})
    async with client_on(network, observer=observer) as client:
        await client.complete(REQUEST)
    assert observer.asked == 1
    assert [request.headers["traceparent"] for request in network.requests] == ["00-1-2-01"] * 2
    for request in network.requests:
        assert request.headers["user-agent"].startswith("penstock/")
        assert request.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.anyio
@pytest.mark.parametrize("headers", [{"a b": "c"}, {"traceparent": "a\r\nb: c"}, {"a": 1}, 5, None])
async def test_headers_that_cannot_be_sent_are_not(headers: Any) -> None:
    network = MemoryNetwork(HELLO)
    async with client_on(network, observer=Tracing(headers)) as client:
        answer = await client.complete(REQUEST)
    assert answer.text == "Hello"
    assert {name.lower() for name in network.requests[0].headers} & {"a b", "b", "a"} == set()


WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


class Context:
    def __init__(self) -> None:
        self.seen: set[str] = set()

    def request_started(self, event: RequestStarted) -> None:
        self.seen.add(WHO.get())
        WHO.set("changed")

    def finished(self, event: Finished) -> None:
        self.seen.add(WHO.get())


@pytest.mark.anyio
async def test_it_runs_in_the_context_in_which_the_request_was_made() -> None:
    observer = Context()
    async with client_on(MemoryNetwork(HELLO), observer=observer) as client:
        token = WHO.set("maker")
        stream = client.chat.completions.stream(**REQUEST)
        WHO.reset(token)
        async with stream:
            await stream.collect()
        assert WHO.get() == "nobody"
    assert observer.seen == {"maker"}


def test_so_does_the_blocking_client() -> None:
    observer = Context()
    with (
        serve_in_thread(HELLO) as server,
        Client(server.base_url, api_key=KEY, observer=observer) as client,
    ):
        token = WHO.set("maker")
        client.complete(REQUEST)
        WHO.reset(token)
    assert observer.seen == {"maker"}
