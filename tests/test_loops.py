"""Which event loop runs: the answers of `sniffio`, whatever is imported by now."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import time
import types
from typing import Any

import anyio
import pytest
import trio
import uvloop

from penstock import Client
from penstock._loops import event_loop, event_loop_clock, in_trio
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import sse_reply, tokens
from penstock.testing.server import serve_in_thread
from tests.support.blocking import run_program
from tests.support.chat import REQUEST, client_on

HELLO = sse_reply(tokens("Hel", "lo"))


def test_no_loop_runs() -> None:
    assert not in_trio()


def test_each_loop_and_its_clock() -> None:
    async def asked() -> tuple[bool, object]:
        return in_trio(), event_loop_clock()

    class OwnTime(asyncio.SelectorEventLoop):
        def time(self) -> float:
            return super().time() + 1000

    async def of_loop() -> tuple[bool, bool]:
        found, clock = await asked()
        return found, clock == asyncio.get_running_loop().time

    assert asyncio.run(asked()) == (False, time.monotonic)
    for factory in (OwnTime, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=factory) as runner:
            assert runner.run(of_loop()) == (False, True)
    assert trio.run(asked) == (True, trio.current_time)


@pytest.mark.parametrize("run", [trio.run, lambda main: anyio.run(main, backend="trio")])
def test_a_worker_thread_of_trio_runs_no_loop(run: Any) -> None:
    async def main() -> list[bool]:
        found: list[bool] = [await trio.to_thread.run_sync(in_trio)]
        # A thread with a copy of the context, as some frameworks start theirs.
        context = contextvars.copy_context()
        thread = threading.Thread(target=lambda: found.append(context.run(in_trio)))
        thread.start()
        thread.join()
        return found

    assert run(main) == [False, False]


def test_trio_as_a_guest_of_asyncio() -> None:
    async def main() -> dict[str, bool]:
        found: dict[str, bool] = {}
        over = asyncio.Event()

        async def guest() -> None:
            found["guest"] = in_trio()
            await trio.lowlevel.checkpoint()
            found["guest again"] = in_trio()

        trio.lowlevel.start_guest_run(
            guest,
            run_sync_soon_threadsafe=asyncio.get_running_loop().call_soon_threadsafe,
            done_callback=lambda _: over.set(),
        )
        await asyncio.sleep(0)
        found["host"] = in_trio()
        await over.wait()
        return found

    assert asyncio.run(main()) == {"guest": True, "guest again": True, "host": False}


def test_another_thread_is_importing_trio_just_now(monkeypatch: pytest.MonkeyPatch) -> None:
    # As `sys.modules` has it then: a module without its names.
    monkeypatch.setitem(sys.modules, "trio", types.ModuleType("trio"))

    async def main() -> str | None:
        async with client_on(MemoryNetwork(HELLO)) as client:
            completion = await client.complete(REQUEST)
        return completion.choices[0].message.content

    assert asyncio.run(main()) == "Hello"
    with serve_in_thread(HELLO) as server, Client(server.base_url, api_key="k") as client:
        assert client.complete(REQUEST).choices[0].message.content == "Hello"


TRIO_ASYNCIO = """
import trio, trio_asyncio

async def use():
    async with penstock.AsyncClient(url, api_key="k") as client:
        said = [(await client.complete(R)).choices[0].message.content]
        async with penstock.fan_out(client.complete, [R] * 3) as results:
            said += [each.unwrap().choices[0].message.content async for each in results]
        async with penstock.race(client, [R] * 2) as stream:
            said.append("".join([text async for text in stream.text]))
        async with penstock.fan_out_chunks(client, [R] * 2) as events:
            said += [
                event.unwrap().choices[0].message.content
                async for event in events
                if isinstance(event, penstock.ResultEvent)
            ]
    return said

async def main():
    async with trio_asyncio.open_loop():
        print(await use())
        print(await trio_asyncio.aio_as_trio(use)())

trio.run(main)
"""


def test_trio_asyncio_in_both_of_its_modes() -> None:
    # In a process of its own: importing trio_asyncio changes asyncio for all.
    with serve_in_thread(HELLO) as server:
        code, output, errors = run_program(TRIO_ASYNCIO, server.base_url)
    assert (code, output) == (0, f"{['Hello'] * 7}\n" * 2), errors


def test_another_thread_is_importing_asyncio_just_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncio", types.ModuleType("asyncio"))
    assert event_loop() is None
