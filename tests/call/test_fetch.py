"""A call whose answer is read as a whole."""

from __future__ import annotations

import gzip
from typing import Any

import anyio
import pytest

import penstock
from penstock import Limiter, Timeouts
from penstock._wire import whole_answer
from penstock.testing.cuts import cut_at, every_byte, split_at
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import error_reply, json_reply, status_reply
from penstock.testing.script import End, Fault, Reply, Reset, Send, Stall, reply
from penstock.testing.sweep import cancel_sweep
from tests.support.chat import Watcher, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

WHOLE = json_reply({"text": "é" * 40}, headers={"x-request-id": "req-1"})
BODY_AT = WHOLE.data.index(b"\r\n\r\n") + 4


@pytest.mark.parametrize("chunked", [True, False, "close"])
async def test_every_framing_in_every_piece(chunked: Any) -> None:
    whole = json_reply({"text": "é" * 40}, chunked=chunked)
    network = MemoryNetwork([whole, every_byte(whole)])
    async with client_on(network) as client:
        for _ in range(2):
            assert (await client.request("GET", "/x")).json() == {"text": "é" * 40}
    assert len(network.connections) == (2 if chunked == "close" else 1)


async def test_gzip_is_read_though_not_asked_for() -> None:
    packed = status_reply(200, gzip.compress(b'{"a": 1}'), {"content-encoding": "gzip"})
    network = MemoryNetwork(packed)
    async with client_on(network) as client:
        assert (await client.request("GET", "/x")).json() == {"a": 1}
    assert network.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize("fault", [Reset(), End(), Stall()], ids=["reset", "end", "stall"])
async def test_a_fault_at_every_byte(fault: Fault) -> None:
    for offset in range(len(WHOLE.data)):
        network = MemoryNetwork([cut_at(WHOLE, offset, fault), WHOLE])
        limiter = Limiter(1)
        timeouts = Timeouts(read=5)
        async with client_on(network, limiter=limiter, timeouts=timeouts) as client:
            if offset > BODY_AT or fault == Stall():
                with pytest.raises(penstock.APIConnectionError):
                    await client.request("GET", "/x")
                assert len(network.requests) == 1, offset
            elif offset in range(1, BODY_AT):
                # Part of a head: a failure of the connection, or no HTTP at all.
                try:
                    await client.request("GET", "/x")
                except penstock.APIResponseError:
                    assert len(network.requests) == 1, offset
                else:
                    assert len(network.requests) == 2, offset
            else:
                assert (await client.request("GET", "/x")).status_code == 200
                assert len(network.requests) == 2, offset
            assert limiter.statistics().in_flight == 0
        assert network.open_connections == 0


async def test_a_body_above_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_answer, "MAX_BODY_BYTES", 100)
    network = MemoryNetwork([status_reply(200, b"x" * 100), status_reply(200, b"x" * 300_000)])
    async with client_on(network) as client:
        assert len((await client.request("GET", "/x")).content) == 100
        with pytest.raises(penstock.APIResponseError, match="100 bytes"):
            await client.request("GET", "/x")
        assert network.open_connections == 0


async def test_a_huge_error_body_is_cut_and_its_status_stays() -> None:
    network = MemoryNetwork(status_reply(400, b"x" * 5_000_000))
    async with client_on(network) as client:
        with pytest.raises(penstock.BadRequestError) as caught:
            await client.request("GET", "/x")
    assert len(str(caught.value)) < 1000
    assert network.open_connections == 0


async def test_a_status_counts_whatever_becomes_of_its_body() -> None:
    refusal = error_reply(401, "wrong key")
    for fault in (Reset(), End(), Stall()):
        network = MemoryNetwork(cut_at(refusal, len(refusal.data) - 5, fault))
        async with client_on(network, timeouts=Timeouts(read=1)) as client:
            with pytest.raises(penstock.AuthenticationError) as caught:
                await client.request("GET", "/x")
        assert caught.value.status_code == 401


async def test_bytes_beyond_the_end_are_no_answer_to_the_next() -> None:
    smuggled = Reply((Send(WHOLE.data + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"),))
    network = MemoryNetwork([smuggled, json_reply("good")])
    async with client_on(network) as client:
        assert "text" in (await client.request("GET", "/x")).json()
        assert (await client.request("GET", "/x")).json() == "good"
    assert len(network.connections) == 2


async def test_the_slot_is_back_and_the_outcome_told_on_every_way_out() -> None:
    for script, outcome in [
        (WHOLE, "completed"),
        (error_reply(400), "failed"),
        (reply(Stall()), "cancelled"),
    ]:
        limiter, watcher = Limiter(1), Watcher()
        network = MemoryNetwork(script)
        async with client_on(network, limiter=limiter, observer=watcher) as client:
            try:
                with anyio.move_on_after(3):
                    await client.request("GET", "/x")
            except penstock.BadRequestError:
                assert outcome == "failed"
            assert limiter.statistics().in_flight == 0
        assert watcher.outcomes() == [outcome]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled_at_every_point(backend: Any) -> None:
    networks: list[MemoryNetwork] = []
    limiters: list[Limiter] = []

    async def scenario() -> None:
        pieces = split_at(WHOLE, list(range(16, len(WHOLE.data), 16)))
        network = MemoryNetwork([error_reply(500), pieces], delay=0.1)
        limiter = Limiter(1)
        networks.append(network)
        limiters.append(limiter)
        async with client_on(network, limiter=limiter) as client:
            await client.request("GET", "/x")

    cancel_sweep(backend, scenario)
    assert len(networks) > 10
    assert all(network.open_connections == 0 for network in networks)
    assert all(limiter.statistics().in_flight == 0 for limiter in limiters)
    assert all(len(network.requests) <= 2 for network in networks)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("chunked", [False, "close"])
def test_cancelled_at_every_point_the_outcome_is_told_once(backend: Any, chunked: Any) -> None:
    # With "close" the connection is closed behind the whole answer, which is a wait as well.
    watchers: list[Watcher] = []

    async def scenario() -> None:
        watcher = Watcher()
        watchers.append(watcher)
        network = MemoryNetwork(json_reply({"text": "x"}, chunked=chunked), delay=0.1)
        async with client_on(network, observer=watcher) as client:
            await client.request("GET", "/x")

    cancel_sweep(backend, scenario)
    for watcher in watchers:
        assert len(watcher.outcomes()) == len(watcher.of("request_started"))
        assert set(watcher.outcomes()) <= {"cancelled", "completed"}
    assert any(watcher.outcomes() == ["completed"] for watcher in watchers)
