"""Promise 6: no ExceptionGroup leaves a fan-out, a race or a stream unless the body raised one."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import penstock
from penstock import AsyncClient
from penstock._many.channels import fan_out_channels
from penstock._many.chunks import fan_out_chunks
from penstock._many.fan_out import fan_out
from penstock._many.race import race
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import error_reply, sse_reply, tokens
from penstock.testing.script import Pause, RecordedRequest, Reply, Reset
from tests.support.chat import REQUEST, client_on
from tests.support.sweeps import sample

from .evidence import count
from .offsets import event_loop
from .virtual_uvloop import BACKENDS, run_virtually
from .virtual_uvloop import virtual_backend as anyio_backend

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


class BodyError(Exception):
    pass


class WorkerError(Exception):
    pass


class SourceError(Exception):
    pass


class Fatal(BaseException):
    """Like KeyboardInterrupt, but nothing that asyncio's loop takes for itself."""


BODIES = ["reads all", "breaks", "idles", "raises", "raises a group", "is fatal"]
WORKERS = ["ends", "fails", "hangs", "fails when cancelled", "shields", "groups when cancelled"]
SOURCES = ["list", "fails", "fails async", "hangs", "fails when closed", "groups"]
OUTERS = [
    "none",
    "cancelled before",
    "cancelled in the body",
    "deadline",
    "cancelled while leaving",
]


async def worker(kind: str, number: int) -> int:
    if kind == "fails":
        await anyio.sleep(0.1)
        raise WorkerError
    if kind == "ends":
        await anyio.sleep(0.1 * (number + 1))
        return number
    try:
        await anyio.sleep(1000)
    except BaseException as cancelled:
        if kind == "fails when cancelled":
            raise WorkerError from None  # noqa: ASYNC104 - what is tested
        if kind == "groups when cancelled":
            # What a nursery of trio's raises where a cancellation meets an error.
            raise BaseExceptionGroup("both", [cancelled, WorkerError()]) from None  # noqa: ASYNC104 - what is tested
        if kind == "shields":
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.5)
        raise
    return number


def source(kind: str) -> Any:
    def fails() -> Iterator[int]:
        yield from range(3)
        raise SourceError

    async def runs() -> AsyncIterator[int]:  # noqa: ASYNC900 - a source, as users write them
        try:
            for number in range(3):
                yield number
                await anyio.sleep(0.05)
            if kind == "hangs":
                await anyio.sleep(1000)
            if kind == "fails async":
                raise SourceError
        finally:
            if kind == "fails when closed":
                raise SourceError

    async def groups() -> AsyncIterator[int]:  # noqa: ASYNC900 - a source, as users write them
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0.3)
            for number in range(5):
                yield number  # noqa: ASYNC101, ASYNC119 - what is tested
                await anyio.sleep(0.1)

    return {"list": range(3), "fails": fails(), "groups": groups()}.get(kind) or runs()


async def body(kind: str, results: Any) -> BaseException | None:
    """Do what the body does; gives what it is about to raise."""
    if kind == "reads all":
        async for _ in results:
            pass
    elif kind == "breaks":
        async for _ in results:
            return None
    else:
        await anyio.sleep(0.2)
        if kind == "raises":
            return BodyError()
        if kind == "raises a group":
            return ExceptionGroup("the body's own", [BodyError()])
        if kind == "is fatal":
            return Fatal()
    return None


async def one(
    block: AbstractAsyncContextManager[Any],
    kind: str,
    outer: str,
    closing: tuple[type[Exception], ...] = (),
) -> None:
    """Run a block whose body does `kind`, inside a scope that is cancelled as `outer` says.

    `closing`: what may leave a block whose body raised nothing.
    """
    raised: BaseException | None = None
    left: BaseException | None = None
    cancelled = False
    with anyio.CancelScope() as scope:
        if outer == "cancelled before":
            scope.cancel()
        elif outer == "deadline":
            scope.deadline = anyio.current_time() + 0.15
        try:
            async with block as results:
                if outer == "cancelled in the body":
                    scope.cancel()
                try:
                    with anyio.CancelScope(shield=outer == "cancelled in the body"):
                        raised = await body(kind, results)
                except Exception as error:  # noqa: BLE001 - of the source, or a stream's own
                    raised = error
                if outer == "cancelled while leaving":
                    scope.deadline = anyio.current_time() + 0.01
                if raised is not None:
                    raise raised
        except anyio.get_cancelled_exc_class():
            cancelled = True
            raise
        except BaseException as error:  # noqa: BLE001
            left = error
        # A cancelled scope stays cancelled: the next thing that waits is told.
        await anyio.lowlevel.checkpoint()
    assert scope.cancelled_caught == scope.cancel_called
    if cancelled:
        assert raised is None
    elif raised is None and left is not None:
        assert type(left) in closing
    else:
        assert left is raised


def endless(body_kind: str, worker_kind: str, source_kind: str, outer: str) -> bool:
    """Whether nothing would ever end the body."""
    if outer == "none" or outer in ("cancelled in the body", "cancelled while leaving"):
        if body_kind == "reads all":
            return worker_kind not in ("ends", "fails") or source_kind == "hangs"
        if body_kind == "breaks":
            return worker_kind not in ("ends", "fails")
    return False


@pytest.mark.parametrize("outer", OUTERS)
@pytest.mark.parametrize("ordered", [False, True])
async def test_fan_out(ordered: bool, outer: str) -> None:
    every = itertools.product(BODIES, WORKERS, SOURCES)
    ending = [kinds for kinds in every if not endless(*kinds, outer)]
    runs = 0
    for kinds in sample(ending, 0.25, seed=(ordered, outer, event_loop())):
        body_kind, worker_kind, source_kind = kinds
        count("cases")

        async def fn(number: int, kind: str = worker_kind) -> int:
            return await worker(kind, number)

        fan = fan_out(fn, source(source_kind), limit=2, buffer=1, ordered=ordered)
        try:
            await one(fan, body_kind, outer, closing=(SourceError,))
        except BaseException as error:
            error.add_note(repr(kinds))
            raise
        assert fan.statistics().running == 0
        runs += 1
    assert runs > 35


def script(request: RecordedRequest) -> Reply:
    kind = request.json["user"]
    if kind == "fails":
        return error_reply(400).after(0.1)
    if kind == "breaks off":
        return sse_reply([*tokens("a", finish=None), Pause(0.1), Reset()])
    if kind == "hangs":
        return sse_reply([*tokens("a", finish=None), Pause(1000), *tokens("b")])
    return sse_reply([Pause(0.1), *tokens("a", "b")])


def clientele(kind: str) -> tuple[MemoryNetwork, AsyncClient, list[dict[str, Any]]]:
    network = MemoryNetwork(script)
    requests = [{**REQUEST, "user": kind}] * 4
    return network, client_on(network, max_retries=0), requests


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize("outer", OUTERS)
@pytest.mark.parametrize("made", [fan_out_chunks, fan_out_channels, race, "a stream"])
async def test_streams(made: Any, outer: str) -> None:
    ending = [
        (body_kind, worker_kind)
        for body_kind in BODIES
        for worker_kind in ("ends", "fails", "breaks off", "hangs")
        if not (body_kind == "reads all" and worker_kind == "hangs")
        or not endless(body_kind, worker_kind, "list", outer)
    ]
    for kinds in sample(ending, 0.4, seed=(str(made), outer, event_loop())):
        body_kind, worker_kind = kinds
        count("cases")
        network, client, requests = clientele(worker_kind)
        async with client:
            closing: tuple[type[Exception], ...] = ()
            if made == "a stream":
                block: Any = client.chat.completions.stream(**requests[0])
                closing = (penstock.BadRequestError,)
            elif made is race:
                block = race(client, requests)
                closing = (penstock.AllAttemptsFailed,)
            else:
                block = made(client, requests, limit=2)
            try:
                await one(block, body_kind, outer, closing)
            except BaseException as error:
                error.add_note(repr(kinds))
                raise
            # What is left are connections that can be used again.
            await client.complete({**REQUEST, "user": "ends"})
        assert network.open_connections == 0


# --- what is no Exception ---


async def test_a_fatal_call_leaves_as_itself() -> None:
    for fatal in (1, 3):

        async def fn(number: int, n: int = fatal) -> int:
            await anyio.sleep(0.1)
            if number < n:
                raise Fatal(number)
            return number

        with pytest.raises(Fatal):  # noqa: PT012
            async with fan_out(fn, range(5), limit=3) as results:
                await anyio.sleep(0.05)
                async for _ in results:
                    pass
        with pytest.raises(Fatal):  # noqa: PT012
            async with fan_out(fn, range(5), limit=3):
                await anyio.sleep(0.05)
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(1)
                raise BodyError


async def test_a_fatal_source_leaves_as_itself() -> None:
    def sync_source() -> Iterator[int]:
        yield 1
        raise Fatal

    async def async_source() -> AsyncIterator[int]:  # noqa: ASYNC900 - a source, as users write them
        yield 1
        raise Fatal

    async def group_source() -> AsyncIterator[int]:  # noqa: ASYNC900 - a source, as users write them
        async with anyio.create_task_group():
            yield 1  # noqa: ASYNC101, ASYNC119 - what is tested
            raise Fatal

    for items in (sync_source(), async_source(), group_source()):
        with pytest.raises(Fatal):  # noqa: PT012
            async with fan_out(anyio.sleep, items) as results:
                async for _ in results:
                    pass


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["fn", "body", "source", "observer in a race"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_keyboard_interrupt_and_system_exit(
    backend: str, where: str, kind: type[BaseException]
) -> None:
    left: list[BaseException] = []
    network = MemoryNetwork(script)

    class Observer:
        def first_token(self, event: object) -> None:
            if where == "observer in a race":
                raise kind

    async def main() -> None:
        async def fn(number: int) -> None:
            await anyio.sleep(0.1)
            if where == "fn":
                raise kind

        if backend != "trio":
            # It reports the task that the exception came out of, too, some time later.
            asyncio.get_running_loop().set_exception_handler(lambda *_: None)

        def items() -> Iterator[int]:
            yield 1
            yield 2
            if where == "source":
                raise kind
            yield 3

        try:
            if where == "observer in a race":
                async with client_on(network, observer=Observer()) as client:
                    request = {**REQUEST, "user": "ends"}
                    async with race(client, [request, request]):
                        pass
            else:
                async with fan_out(fn, items(), limit=2) as results:
                    async for _ in results:
                        if where == "body":
                            raise kind
        except asyncio.CancelledError:
            # asyncio raises these two out of the loop first, and cancels the rest afterwards.
            left.append(kind())
            raise
        except BaseException as error:
            left.append(error)
            raise

    with pytest.raises(kind):
        run_virtually(backend, main)
    assert [type(error) for error in left] == [kind]
    assert network.open_connections == 0
