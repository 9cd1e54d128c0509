"""What a client's calls share: closing it ends every one of them, whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import Timeouts
from penstock._call.call import Call, Service
from penstock._http.connections import Connections
from penstock._http.outgoing import Outgoing
from penstock._wire.request_head import RequestHead
from penstock.testing.sweep import cancel_sweep
from tests.invariants.virtual_uvloop import BACKENDS
from tests.invariants.virtual_uvloop import virtual_backend as anyio_backend

__all__ = ["anyio_backend"]


class Idle:
    """Connections of which only the end is of interest."""

    def __init__(self) -> None:
        self.grace: list[float | None] = []

    async def aclose(self, grace: float | None) -> None:
        self.grace.append(grace)


class Sender:
    """Whoever holds a connection: it takes its time to settle, or fails at it."""

    def __init__(self, service: Service, log: list[str], pause: float | None = None) -> None:
        self._service = service
        self._log = log
        self._pause = pause
        self.holds = True
        self.closed_first = False
        service.live.add(self)

    @property
    def connected(self) -> bool:
        return self.holds

    def _end(self) -> None:
        self.holds = False
        self._service.live.discard(self)

    def interrupt(self) -> None:
        self.closed_first = self._service.closed
        self._log.append("interrupt")

    async def settle(self) -> None:
        if self._pause is None:
            raise OSError("cannot settle")
        await anyio.sleep(self._pause)
        self._log.append("settle")
        self._end()

    def abort(self) -> None:
        self._log.append("abort")
        self._end()


async def no_key() -> str | None:
    await anyio.lowlevel.checkpoint()
    return None


def service_on(idle: Idle) -> Service:
    connections = cast("Connections", idle)
    return Service(connections, None, None, no_key, 60.0)


@pytest.mark.anyio
@given(pauses=st.lists(st.sampled_from([0.0, 0.25, 3.0]), max_size=6))
async def test_closing_settles_every_live_call_and_then_the_connections(
    pauses: list[float],
) -> None:
    idle, log = Idle(), list[str]()
    service = service_on(idle)
    senders = [Sender(service, log, pause) for pause in pauses]
    await service.aclose(2.5)
    assert service.closed
    assert not any(sender.holds for sender in senders)
    # None may begin anything new from the moment on at which the first is interrupted.
    assert all(sender.closed_first for sender in senders)
    assert log == ["interrupt", "settle"] * len(pauses)
    assert idle.grace == [2.5]


@pytest.mark.anyio
async def test_one_that_cannot_be_settled_does_not_keep_the_others_open() -> None:
    idle, log = Idle(), list[str]()
    service = service_on(idle)
    senders = [Sender(service, log) for _ in range(3)]
    with pytest.raises(OSError, match="cannot settle"):
        await service.aclose(None)
    assert log == ["interrupt", "abort", "abort", "abort"]
    assert not any(sender.holds for sender in senders)
    assert (service.live, idle.grace) == (set(), [None])


@pytest.mark.anyio
async def test_it_may_be_closed_again() -> None:
    idle = Idle()
    service = service_on(idle)
    await service.aclose(None)
    late = Sender(service, [], 0.0)
    await service.aclose(None)
    assert not late.holds


@pytest.mark.parametrize("backend", BACKENDS)
def test_cancelled_at_any_point_nothing_stays_open(backend: Any) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncIterator[Callable[[], Awaitable[object]]]:
        idle, log = Idle(), list[str]()
        service = service_on(idle)
        senders = [Sender(service, log, 0.01) for _ in range(3)]
        yield lambda: service.aclose(1.0)
        # Cancelled before its first step, it has not begun.
        if service.closed:
            assert not any(sender.holds for sender in senders)
            assert log.count("settle") + log.count("abort") == 3
            assert idle.grace == [1.0]

    points = cancel_sweep(backend, scenario, real=backend == "uvloop")
    assert points["scope"] >= 3


def test_a_call_is_a_value() -> None:
    outgoing = Outgoing(RequestHead("GET", "/v1/models", []), b"")
    call = Call(outgoing, Timeouts(), 2, streaming=True)
    assert call.model is None
    with pytest.raises(AttributeError):
        call.max_retries = 3  # type: ignore[misc]
    assert call == Call(outgoing, Timeouts(), 2, streaming=True)


def test_services_are_told_apart_by_identity() -> None:
    # Each client has its own, also where two have the same settings.
    idle = Idle()
    one, other = service_on(idle), service_on(idle)
    assert one != other
    assert one.live is not other.live
