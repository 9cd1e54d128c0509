"""Promise 12 in any thread: a stream that another thread collects is shut and releases its slot."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from penstock import AsyncClient, Limiter
from penstock.testing.replies import sse_reply, tokens
from penstock.testing.script import RecordedRequest, Reply, Stall
from penstock.testing.server import serve
from tests.support.chat import REQUEST
from tests.support.httpcore_compat import httpcore

from .recorded import PLAIN

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_collections")]

ENDLESS = sse_reply([*PLAIN[:3], Stall()])
HELLO = sse_reply(tokens("Hello"))


def script(request: RecordedRequest) -> Reply:
    return HELLO if request.json == {**REQUEST, "n": 1, "stream": True} else ENDLESS


def by_itself(collect: Callable[[], None]) -> None:
    collect()


def in_asyncio(collect: Callable[[], None]) -> None:
    async def main() -> None:
        collect()

    asyncio.run(main())


def in_trio(collect: Callable[[], None]) -> None:
    async def main() -> None:
        collect()

    trio.run(main)


OPENED: dict[str, Callable[[AsyncClient], Any]] = {
    "chat": lambda client: client.chat.completions.stream(**REQUEST),
    "text": lambda client: client.completions.stream(model="m", prompt="p"),
    "events": lambda client: client.events("/other", json={}),
    "bytes": lambda client: client.stream("POST", "/other", json={}),
}
KINDS = [
    (kind, wire, where)
    for kind in OPENED
    for wire in ("tcp", "tls", "network")
    for where in (by_itself, in_asyncio, in_trio)
    if kind == "chat" or (wire == "tcp" and where is by_itself)
]


# A backend of the caller's own may complain about its sockets: they are shut, not yet closed.
@pytest.mark.filterwarnings("ignore:Exception ignored:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("in_cycle", [False, True], ids=["dropped", "in a cycle"])
@pytest.mark.parametrize(("kind", "wire", "where"), KINDS)
async def test_another_thread_collects_it(
    kind: str, wire: str, where: Callable[[Callable[[], None]], None], in_cycle: bool
) -> None:
    limiter = Limiter(1)
    holder: list[Any] = []

    def collect() -> None:
        holder.clear()
        gc.collect()

    async with serve(script, tls=wire == "tls") as server:
        client = AsyncClient(
            server.base_url,
            api_key="k",
            limiter=limiter,
            ssl_context=server.client_ssl_context() if wire == "tls" else None,
            network=httpcore.AnyIOBackend() if wire == "network" else None,
        )
        async with client:
            stream = OPENED[kind](client)
            await anext(stream)
            holder.append(stream)
            if in_cycle:
                holder.append(holder)
                holder = [*holder]
            del stream
            said: list[str | None] = []

            async def wait_in_line() -> None:
                completion = await client.complete({**REQUEST, "n": 1})
                said.append(completion.choices[0].message.content)

            async with anyio.create_task_group() as group:
                group.start_soon(wait_in_line)
                with anyio.fail_after(5):
                    while not limiter.statistics().waiting:  # noqa: ASYNC110 - only a look tells
                        await anyio.lowlevel.checkpoint()
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    thread = threading.Thread(target=where, args=(collect,))
                    thread.start()
                    thread.join()  # the loop stands still: nothing of it helps
                assert ResourceWarning in [each.category for each in caught]
                with anyio.fail_after(5):
                    await server.wait_closed(1)
                    while not said:  # noqa: ASYNC110 - only a look tells
                        await anyio.sleep(0.001)
            assert said == ["Hello"]
            assert limiter.statistics().in_flight == 0
