"""`Spread` over real servers that are killed, stalled and brought back under load.

Nothing is lost: each request ends in a whole answer, or in an error that has what came, where a
server was killed within the answer. Nothing is sent again after its first byte: the servers count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest

import penstock
from penstock import AsyncClient, Spread, StreamInterruptedError
from penstock.testing.sweep import open_fds
from tests.support.chat import MESSAGES
from tests.support.flaky_server import FlakyServer, flaky_servers

COUNT = 300
BACKENDS = ("asyncio", "uvloop", "trio")

Answers = AsyncIterator[tuple[int, str | Exception]]


def requests() -> list[dict[str, Any]]:
    return [
        {"model": "m", "messages": MESSAGES, "nth": n, "user": f"user {n % 30}"}
        for n in range(COUNT)
    ]


def run(main: Callable[[], Awaitable[None]], backend: str) -> None:
    if backend == "trio":
        anyio.run(main, backend="trio")
    else:
        anyio.run(main, backend_options={"use_uvloop": backend == "uvloop"})


def spread_over(servers: list[FlakyServer], **options: Any) -> Spread:
    clients = [AsyncClient(server.base_url, proxy="", max_retries=12) for server in servers]
    return Spread(clients, **options)


# --- the ways to send many ---


async def by_fan_out(spread: Spread, count: int = COUNT) -> Answers:  # noqa: ASYNC900 - its user closes it
    async with penstock.fan_out(spread.complete, requests()[:count], limit=32) as results:
        async for result in results:
            error = result.error
            yield result.index, error if error is not None else result.unwrap().text  # noqa: ASYNC119 - closed by its user


async def by_chunks(spread: Spread) -> Answers:  # noqa: ASYNC900 - its user closes it
    async with penstock.fan_out_chunks(spread, requests(), limit=32) as events:
        async for event in events:
            if isinstance(event, penstock.ResultEvent):
                error = event.error
                text = "" if event.completion is None else event.completion.text
                yield event.index, error if error is not None else text  # noqa: ASYNC119 - closed by its user


async def by_channels(spread: Spread) -> Answers:  # noqa: ASYNC900 - its user closes it
    async with penstock.fan_out_channels(spread, requests(), limit=32) as channels:
        async for channel in channels:
            text = ""
            try:
                async with channel.receive:
                    async for chunk in channel.receive:
                        text += chunk.choices[0].delta.content or "" if chunk.choices else ""
            except penstock.PenstockError as error:
                yield channel.index, error  # noqa: ASYNC119 - closed by its user
            else:
                yield channel.index, text  # noqa: ASYNC119 - closed by its user


WAYS: dict[str, Callable[[Spread], Answers]] = {
    "fan_out": by_fan_out,
    "fan_out_chunks": by_chunks,
    "fan_out_channels": by_channels,
}


async def trouble(servers: list[FlakyServer], happened: list[str]) -> None:
    """Kill one and bring it back, stall another and let it go on, twice."""
    first, second, _ = servers

    async def arrived(count: int) -> None:
        # A consumer that waits for a stalled server asks for nothing else.
        with anyio.move_on_after(0.5):
            while sum(server.requests.total() for server in servers) < count:  # noqa: ASYNC110 - no event at each request
                await anyio.sleep(0.002)

    for begin in (40, COUNT // 2):
        await arrived(begin)
        first.kill()
        await arrived(begin + 30)
        second.stall()
        await arrived(begin + 50)
        await first.start()
        await arrived(begin + 70)
        second.resume()
        happened.append("all back")


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_lost_and_nothing_is_sent_twice(way: str, backend: str) -> None:
    async def main() -> None:
        answers: dict[int, str | Exception] = {}
        happened: list[str] = []
        async with flaky_servers(3) as servers:
            async with spread_over(servers) as spread, anyio.create_task_group() as group:
                group.start_soon(trouble, servers, happened)
                async for index, answer in WAYS[way](spread):
                    assert index not in answers
                    answers[index] = answer
                assert all(each.in_flight == 0 for each in spread.statistics().servers)
            begun = sum((server.begun for server in servers), Counter[int]())
            ended = sum((server.ended for server in servers), Counter[int]())
        assert happened == ["all back"] * 2
        assert sorted(answers) == list(range(COUNT))
        assert max(begun.values()) == 1
        whole = {index for index, answer in answers.items() if answer == "abcde"}
        cut = {index for index, answer in answers.items() if isinstance(answer, Exception)}
        assert whole | cut == set(answers)
        assert all(isinstance(answers[index], StreamInterruptedError) for index in cut)
        # Only what was under way on a server when it was killed.
        assert len(cut) <= 2 * 32
        assert whole >= set(ended)

    before = open_fds()
    run(main, backend)
    assert open_fds() == before


@pytest.mark.parametrize("backend", BACKENDS)
def test_sessions_stay_together_and_come_home(backend: str) -> None:
    async def main() -> None:
        async with flaky_servers(3) as servers, spread_over(servers, session="user") as spread:
            answers = [answer async for _, answer in by_fan_out(spread, 90)]
            assert answers == ["abcde"] * 90
            homes = [set(server.users) for server in servers]
            assert sum(map(len, homes)) == 30
            assert all(homes)
            servers[0].kill()
            async for _, answer in by_fan_out(spread, 90):
                assert answer == "abcde"
            # Those of the others did not move.
            moved = [set(server.users) for server in servers]
            assert moved[1] | moved[2] == homes[0] | homes[1] | homes[2]
            await servers[0].start()
            await anyio.sleep(spread.statistics().servers[0].out_for)
            for server in servers:
                server.users.clear()
            async for _, answer in by_fan_out(spread, 90):
                assert answer == "abcde"
            back = [set(server.users) for server in servers]
            assert back[0] == homes[0]

    run(main, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_race_over_servers_of_which_one_stalls(backend: str) -> None:
    async def main() -> None:
        async with flaky_servers(2) as servers, spread_over(servers) as spread:
            servers[0].stall()
            for nth in range(20):
                request = {"model": "m", "messages": MESSAGES, "nth": nth}
                with anyio.fail_after(20):
                    async with penstock.race(spread, [request, request]) as winner:
                        assert (await winner.collect()).text == "abcde"
            assert spread.statistics().open_calls == 0

    run(main, backend)
