"""`run`: outcomes of any source, lazily pulled, exactly cancelled."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from typing import Any

import anyio
import pytest

import penstock
from penstock import Limiter, batch
from penstock.batch import BatchStopped, Outcome, Request
from penstock.batch.run import Run
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import completion, error_reply, json_reply
from penstock.testing.script import Pause, RecordedRequest, Reply, Stall, reply
from tests.support.chat import client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

OK = json_reply(completion("Hello"))


def request(number: int) -> Request:
    message = {"role": "user", "content": f"{number}"}
    return Request(f"row {number}", {"model": "m", "messages": [message]})


def requests(count: int) -> list[Request]:
    return [request(number) for number in range(count)]


def number_of(request: RecordedRequest) -> int:
    return int(request.json["messages"][0]["content"])


async def drained(run: Run) -> list[Outcome]:
    async with run as outcomes:
        return [outcome async for outcome in outcomes]


async def test_every_row_has_an_outcome() -> None:
    async with client_on(OK) as client:
        found = await drained(batch.run(client, requests(20), limit=3))
    assert sorted(outcome.index for outcome in found) == list(range(20))
    assert {outcome.custom_id for outcome in found} == {f"row {number}" for number in range(20)}
    assert all(outcome.text == "Hello" and outcome.error is None for outcome in found)
    assert len({outcome.id for outcome in found}) == 20


async def test_outcomes_come_as_they_are_completed() -> None:
    def answer(request: RecordedRequest) -> Reply:
        return reply(Pause(10.0 - number_of(request)), OK.data)

    async with client_on(answer) as client, batch.run(client, requests(5)) as outcomes:
        assert [outcome.index async for outcome in outcomes] == [4, 3, 2, 1, 0]


async def test_a_source_may_be_async_and_is_closed() -> None:
    closed = False

    async def source() -> AsyncGenerator[Request]:  # noqa: ASYNC900 - its user closes it
        nonlocal closed
        try:
            for number in range(100):
                await anyio.sleep(0.1)
                yield request(number)
        finally:
            closed = True

    async with client_on(OK) as client:
        async with batch.run(client, source()) as outcomes:
            assert (await anext(outcomes)).index == 0
            assert (await anext(outcomes)).index == 1
        assert closed


async def test_rows_are_pulled_as_they_can_start() -> None:
    pulled = 0

    def source() -> Generator[Request]:
        nonlocal pulled
        while True:
            pulled += 1
            yield request(pulled)

    network = MemoryNetwork(OK)
    async with client_on(network) as client:
        async with batch.run(client, source(), limit=4) as outcomes:
            for delivered in range(1, 20):
                await anext(outcomes)
                assert pulled <= delivered + 4
        assert pulled <= 19 + 4
        before = pulled
        await anyio.sleep(5)
        assert pulled == before


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize("limit", [1, 2, 20])
@pytest.mark.parametrize("wait", [None, "0", "3"])
async def test_rows_that_are_always_refused_for_load_do_not_end_the_job(
    limit: int, wait: str | None
) -> None:
    # A prompt above the tokens per minute, for instance, is a 429 for ever.
    refused = error_reply(429, headers={} if wait is None else {"retry-after": wait})

    def answer(request: RecordedRequest) -> Reply:
        return refused if number_of(request) in (0, 3) else reply(Pause(5.0), OK.data)

    async with client_on(answer) as client:
        found = await drained(batch.run(client, requests(400), limit=limit))
    failed = {outcome.index: outcome.error.code for outcome in found if outcome.error is not None}
    assert failed == {0: "rate_limit", 3: "rate_limit"}
    assert len(found) == 400


async def test_a_row_that_waits_to_be_asked_again_holds_no_place() -> None:
    times: dict[int, float] = {}

    def answer(request: RecordedRequest) -> Reply:
        number = number_of(request)
        again = number in times
        times.setdefault(number, anyio.current_time())
        return OK if number or again else error_reply(500, headers={"retry-after": "30"})

    async with client_on(answer) as client:
        found = await drained(batch.run(client, requests(5), limit=1))
        assert anyio.current_time() == pytest.approx(30, abs=1)
    assert [outcome.index for outcome in found] == [1, 2, 3, 4, 0]


async def test_what_is_pulled_is_bounded_while_rows_wait() -> None:
    pulled = 0

    def source() -> Generator[Request]:
        nonlocal pulled
        while True:
            yield request(pulled)
            pulled += 1

    async with client_on(error_reply(503)) as client:
        with pytest.raises(BatchStopped):
            await drained(batch.run(client, source(), limit=4, patience=60))
    assert pulled <= 4 + 16 + 1


async def test_what_cannot_be_asked_is_an_outcome() -> None:
    odd: Any = [request(0), Request("", {}), "row", request(3), batch.InvalidRow("bad")]
    async with client_on(OK) as client:
        found = sorted(await drained(batch.run(client, odd)), key=lambda outcome: outcome.index)
    codes = [None if outcome.error is None else outcome.error.code for outcome in found]
    assert codes == [None, "invalid_row", "invalid_row", None, "invalid_row"]
    assert all(json.loads(outcome.to_line()) for outcome in found)


async def test_params_go_into_every_body() -> None:
    network = MemoryNetwork(OK)
    async with client_on(network) as client:
        await drained(batch.run(client, requests(2), params={"model": "x", "seed": 1}))
    assert {(sent.json["model"], sent.json["seed"]) for sent in network.requests} == {("x", 1)}


async def test_leaving_the_block_closes_every_connection_at_once() -> None:
    def answer(request: RecordedRequest) -> Reply:
        return OK if number_of(request) == 0 else reply(Stall())

    network = MemoryNetwork(answer)
    async with client_on(network) as client:
        async with batch.run(client, requests(50), limit=8) as outcomes:
            await anext(outcomes)
            await anyio.sleep(1)
            assert network.open_connections == 8
        assert not any(
            connection.in_flight for connection in network.connections if not connection.ended
        )
        assert client.statistics().open_calls == 0


async def test_a_stopped_run_raises_after_the_last_outcome() -> None:
    def answer(request: RecordedRequest) -> Reply:
        number = number_of(request)
        return error_reply(401) if number == 3 else reply(Pause(1.0 * (number % 2)), OK.data)

    network = MemoryNetwork(answer)
    found: list[int] = []

    async def collect() -> None:
        async with batch.run(client, requests(1000), limit=4) as outcomes:
            async for outcome in outcomes:
                assert outcome.error is None
                found.append(outcome.index)

    async with client_on(network) as client:
        with pytest.raises(BatchStopped, match="refused") as raised:
            await collect()
    assert raised.value.reason == "refused"
    assert 3 not in found
    # Those under way were let in, and nothing more was sent.
    assert len(network.requests) == len(found) + 1 <= 8


async def test_a_stopped_run_does_not_wait_for_its_source() -> None:
    async def source() -> AsyncGenerator[Request]:  # noqa: ASYNC900 - its user closes it
        yield request(0)
        await anyio.sleep_forever()

    async with client_on(error_reply(401)) as client:
        with pytest.raises(BatchStopped), anyio.fail_after(5):
            await drained(batch.run(client, source()))


async def test_a_stop_reaches_a_limiter_that_is_paused() -> None:
    def answer(request: RecordedRequest) -> Reply:
        if number_of(request) == 0:
            return error_reply(429, headers={"retry-after": "500"})
        return reply(Pause(1.0), error_reply(401).data)

    limiter = Limiter(2)
    async with client_on(answer) as client:
        with pytest.raises(BatchStopped) as raised, anyio.fail_after(10):
            await drained(batch.run(client, requests(30), limit=limiter))
    assert raised.value.reason == "refused"
    assert limiter.statistics().in_flight == 0


async def test_no_answer_ends_the_run() -> None:
    network = MemoryNetwork(OK, refuse=10**6)
    async with client_on(network) as client:
        with pytest.raises(BatchStopped) as raised:
            await drained(batch.run(client, requests(100), patience=30.0))
    assert raised.value.reason == "unavailable"
    assert 30.0 <= anyio.current_time() <= 32.0


async def test_an_error_of_the_source_comes_last() -> None:
    def source() -> Generator[Request]:
        yield request(0)
        raise RuntimeError("no more rows")

    async with client_on(OK) as client, batch.run(client, source()) as outcomes:
        assert (await anext(outcomes)).index == 0
        with pytest.raises(RuntimeError, match="no more rows"):
            await anext(outcomes)


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 0},
        {"limit": True},
        {"limit": "64"},
        {"max_retries": -1},
        {"patience": -1.0},
        {"on_cut": "x"},
        {"params": 5},
    ],
)
async def test_arguments_that_make_no_sense(options: dict[str, Any]) -> None:
    async with client_on(OK) as client:
        with pytest.raises((ValueError, TypeError)):
            batch.run(client, [], **options)


async def test_a_client_and_a_source_are_needed() -> None:
    with pytest.raises(TypeError):
        batch.run(object(), [])
    async with client_on(OK) as client:
        with pytest.raises(TypeError):
            batch.run(client, 5)  # type: ignore[arg-type]


def test_nothing_is_loaded_by_import_penstock() -> None:
    look = "import sys, penstock; assert not any('penstock.batch' in m for m in sys.modules);"
    subprocess.run([sys.executable, "-c", f"{look} assert penstock.batch.run"], check=True)


async def test_several_clients() -> None:
    networks = [MemoryNetwork(OK), MemoryNetwork(OK)]
    async with (
        client_on(networks[0], "http://one.test/v1") as one,
        client_on(networks[1], "http://two.test/v1") as two,
    ):
        found = await drained(batch.run([one, two], requests(20), limit=4))
        spread = await drained(batch.run(penstock.Spread([one, two]), requests(20), limit=4))
    assert len(found) == len(spread) == 20
    assert all(outcome.error is None for outcome in (*found, *spread))
    assert all(network.requests for network in networks)


async def test_a_closed_client_is_a_mistake_and_no_rows_failure() -> None:
    client = client_on(OK)
    await client.aclose()
    with pytest.raises(penstock.StreamClosedError):
        await drained(batch.run(client, requests(3)))
