"""What is left open fails the block, and the message shows the line that opened it."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

import penstock
from penstock import AsyncClient, Limiter
from penstock.testing.answers import text_reply
from penstock.testing.clock import virtual
from penstock.testing.leaks import LeakError, no_leaks
from penstock.testing.memory import MemoryNetwork
from penstock.testing.script import Stall
from penstock.testing.server import serve, serve_in_thread
from tests.support.chat import KEY, REQUEST, URL, client_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

pytestmark = pytest.mark.anyio

SOON = 0.05  # what is not closed by then is left open: these tests leave it so


@asynccontextmanager
async def finds(*texts: str, limiters: Sequence[Limiter] = ()) -> AsyncIterator[list[str]]:
    """The block leaves something open; the message has all of these, with this file's name."""
    lines: list[str] = []
    with pytest.raises(LeakError) as caught:
        async with no_leaks(*limiters, grace=SOON):
            yield lines
    message = str(caught.value)
    for text in (__file__, *texts):
        assert text in message
    lines += message.splitlines()


# --- nothing is left ---


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
async def test_a_client_and_a_server_leave_nothing(tls: bool) -> None:
    limiter = Limiter(2)
    async with no_leaks(limiter), serve(text_reply("a"), tls=tls) as server:
        context = server.client_ssl_context() if tls else None
        async with AsyncClient(
            server.base_url, api_key=KEY, ssl_context=context, limiter=limiter
        ) as client:
            await client.complete(REQUEST)
            async with penstock.fan_out(client.complete, [REQUEST] * 3) as results:
                async for result in results:
                    assert result.error is None
            async with client.chat.completions.stream(**REQUEST) as stream:
                await anext(aiter(stream))


async def test_what_was_open_before_is_not_its_affair() -> None:
    network = MemoryNetwork(text_reply("a"))
    stream = await network.connect_tcp("a", 80)
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever)
        async with serve(text_reply("a")) as server, Limiter(3) as limiter:
            async with no_leaks(limiter), AsyncClient(server.base_url, api_key=KEY) as client:
                await client.complete(REQUEST)
            assert server.requests
        group.cancel_scope.cancel()
    await stream.aclose()


async def test_what_closes_soon_is_waited_for() -> None:
    stream = None
    async with anyio.create_task_group() as group:
        async with no_leaks():
            network = MemoryNetwork(text_reply("a"))
            stream = await network.connect_tcp("a", 80)

            async def close() -> None:
                await anyio.sleep(0.1)
                await stream.aclose()

            group.start_soon(close)
        assert not network.open_connections


async def test_an_error_in_the_block_is_the_one_to_see() -> None:
    network = MemoryNetwork(text_reply("a"))
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with no_leaks():
            stream = await network.connect_tcp("a", 80)
            raise ZeroDivisionError
    await stream.aclose()


async def test_a_cancelled_block_is_cancelled() -> None:
    with anyio.move_on_after(0) as scope:
        async with no_leaks():
            await anyio.sleep_forever()
    assert scope.cancelled_caught


# --- something is left ---


async def test_a_stream_left_open() -> None:
    client = client_on(text_reply("a").then(Stall()))
    async with finds("a connection to api.test:80, 1 request sent, 1 in flight", "# sends here"):
        stream = client.chat.completions.stream(**REQUEST)
        await anext(aiter(stream))  # sends here
    await stream.aclose()
    await client.aclose()


async def test_a_client_left_open_on_real_sockets() -> None:
    async with serve(text_reply("a")) as server:
        client = AsyncClient(server.base_url, api_key=KEY)
        address = server.base_url.removeprefix("http://").removesuffix("/v1")
        async with finds("a socket, 127.0.0.1:", f" to {address}", "# connects here"):
            await client.complete(REQUEST)  # connects here
        await client.aclose()


async def test_a_raw_socket() -> None:
    async with finds("a socket, 0.0.0.0:0, not connected", "# opened here") as lines:
        sock = socket.socket()  # opened here
        pair = socket.socketpair()
    assert len([line for line in lines if line.startswith("- ")]) == 1
    for each in (sock, *pair):
        each.close()


async def test_unix_sockets(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        async with finds(f"a socket, to {tmp_path / 's'}", "# connects here"):
            sock = socket.socket(socket.AF_UNIX)  # connects here
            sock.connect(str(tmp_path / "s"))
        sock.close()


async def test_a_socket_of_a_task_of_its_own() -> None:
    socks: list[socket.socket] = []

    async def library() -> None:
        await anyio.lowlevel.checkpoint()
        socks.append(socket.socket())

    async with finds("socks.append(socket.socket())", "# started here"):  # noqa: SIM117
        async with anyio.create_task_group() as group:  # noqa: ASYNC112
            group.start_soon(library)  # started here
    socks[0].close()


async def test_a_task() -> None:
    async with anyio.create_task_group() as group:
        async with finds("- a task, the eternal", "# started here") as lines:
            group.start_soon(anyio.sleep_forever, name="the eternal")  # started here
            group.start_soon(anyio.lowlevel.checkpoint)
        assert len([line for line in lines if line.startswith("- ")]) == 1
        group.cancel_scope.cancel()


async def test_a_task_of_a_task() -> None:
    async with anyio.create_task_group() as outside:

        async def starts() -> None:
            await anyio.lowlevel.checkpoint()
            outside.start_soon(anyio.sleep_forever)  # by a task of the block

        async with finds("# by a task of the block"), anyio.create_task_group() as inside:  # noqa: ASYNC112
            inside.start_soon(starts)
        outside.cancel_scope.cancel()


async def test_tasks_that_others_start_meanwhile_are_theirs() -> None:
    async with anyio.create_task_group() as group:
        begun, ended = anyio.Event(), anyio.Event()

        async def other() -> None:
            await begun.wait()
            group.start_soon(anyio.sleep_forever)
            ended.set()

        group.start_soon(other)
        async with no_leaks(grace=SOON):
            begun.set()
            await ended.wait()
        group.cancel_scope.cancel()


async def test_slots() -> None:
    limiter, sound = Limiter(3), Limiter(3)
    async with (
        finds("- 2 slots of a limiter", "# taken", limiters=[limiter, sound]) as lines,
        sound,
        limiter,
    ):
        slots = [await limiter.acquire() for _ in range(2)]  # taken
    assert len([line for line in lines if line.startswith("- ")]) == 1
    slots.pop().release()
    async with no_leaks(limiter), limiter:  # the other was taken before
        pass
    slots.pop().release()
    assert limiter.statistics().in_flight == 0


async def test_slots_in_blocks_inside_of_each_other() -> None:
    limiter = Limiter(3)
    async with finds("- 2 slots of a limiter", "# one", "# two", limiters=[limiter]):
        slots = [await limiter.acquire()]  # one
        async with finds("- a limiter's slot", "# two", limiters=[limiter]):
            slots.append(await limiter.acquire())  # two
    for slot in slots:
        slot.release()
    assert "enter" not in vars(limiter.line)


async def test_all_is_told_at_once() -> None:
    network = MemoryNetwork(text_reply("a"))
    limiter = Limiter(1)
    async with finds(limiters=[limiter]) as lines:
        sock = socket.socket()
        stream = await network.connect_tcp("a", 80)
        slot = await limiter.acquire()
    assert [line[:14] for line in lines if line.startswith("-")] == [
        "- a connection",
        "- a socket, 0.",
        "- a limiter's ",
    ]
    sock.close()
    slot.release()
    await stream.aclose()


# --- blocks in and beside each other ---


async def test_blocks_inside_of_each_other() -> None:
    init = socket.socket.__init__
    async with finds("# in the outer", "# in the inner"):
        one = socket.socket()  # in the outer
        async with finds("# in the inner") as inner:
            two = socket.socket()  # in the inner
        assert "# in the outer" not in "".join(inner)
    one.close()
    two.close()
    assert socket.socket.__init__ is init


async def test_blocks_that_overlap() -> None:
    first, second = no_leaks(), no_leaks(grace=SOON)
    await first.__aenter__()
    await second.__aenter__()
    await first.__aexit__(None, None, None)
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever)  # only in the second
        with pytest.raises(LeakError, match="# only in the second"):
            await second.__aexit__(None, None, None)
        group.cancel_scope.cancel()
    async with no_leaks(), anyio.create_task_group() as group:  # noqa: ASYNC112
        group.start_soon(anyio.lowlevel.checkpoint)


# --- without an event loop, and in virtual time ---


def test_code_that_blocks() -> None:
    with serve_in_thread(text_reply("a")) as server:
        with no_leaks(), penstock.Client(server.base_url, api_key=KEY) as client:
            client.complete(REQUEST)
        client = penstock.Client(server.base_url, api_key=KEY)
        with pytest.raises(LeakError, match="a socket, 127"), no_leaks(grace=SOON):
            client.complete(REQUEST)
        client.close()


async def test_a_plain_with_is_refused_in_an_event_loop() -> None:
    with pytest.raises(RuntimeError, match="async with"), no_leaks():
        pass


@pytest.mark.parametrize("name", ["asyncio", "trio"])
def test_virtual_time(name: str) -> None:
    async def main() -> float:
        async with no_leaks(), AsyncClient(URL, api_key=KEY, network=network) as client:
            await client.complete(REQUEST)
        return anyio.current_time()

    network = MemoryNetwork(text_reply("a", "b", every=10))
    run_virtual(name, main, 40)


def run_virtual(name: str, main: Callable[[], Awaitable[Any]], result: object) -> None:
    backend, options = virtual(name)
    assert anyio.run(main, backend=backend, backend_options=options) == result


def test_a_task_factory_of_the_users() -> None:
    made: list[str] = []

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(getattr(coro, "__name__", ""))
        return asyncio.Task(coro, loop=loop, **options)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)
        async with finds("- a task, mine", "# started here"):
            task = asyncio.create_task(asyncio.sleep(100), name="mine")  # started here
        assert loop.get_task_factory() is factory
        task.cancel()

    asyncio.run(main())
    assert "sleep" in made
