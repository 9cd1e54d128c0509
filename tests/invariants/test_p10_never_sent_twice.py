"""Promise 10: a request is sent again only before the first byte of the body, and by the rules."""

from __future__ import annotations

import email.utils
import time
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock
from penstock import AsyncClient, Timeouts
from penstock.testing.memory import MemoryNetwork, MemoryStream
from penstock.testing.replies import completion, error_reply, json_reply, sse_reply
from penstock.testing.script import Pause, RecordedRequest, Reply, Reset, Send, Stall, Step, reply
from penstock.testing.server import serve
from tests.support.chat import REQUEST, URL

from .evidence import count
from .recorded import PLAIN, RECORDINGS, Fault, cut
from .virtual_uvloop import BACKENDS, run_virtually

backends = pytest.mark.parametrize("backend", BACKENDS)

CONNECT = 4.0
READ = 30.0
CAP = 60.0

Way = Literal["block", "bare", "complete", "create"]


@dataclass
class Attempt:
    """What befalls one attempt."""

    kind: Literal["refuse", "hang", "status", "cut", "good"] = "good"
    status: int = 500
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    fault: Fault = "end"
    cut: int = 0


statuses = st.builds(
    Attempt,
    kind=st.just("status"),
    status=st.sampled_from(
        [400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 429, 500, 502, 503, 503, 529]
    ),
    code=st.sampled_from([None, None, None, "insufficient_quota"]),
    headers=st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms", "x-should-retry"]), st.none(), max_size=2
    ).flatmap(
        lambda chosen: st.fixed_dictionaries(
            {
                name: {
                    "retry-after": st.sampled_from(["0", "1", "7.5", "60", "61", "junk", "-3"]),
                    "retry-after-ms": st.sampled_from(["0", "250", "60001", "x"]),
                    "x-should-retry": st.sampled_from(["true", "false", "maybe"]),
                }[name]
                for name in chosen
            }
        )
    ),
)
cuts = st.builds(
    Attempt,
    kind=st.just("cut"),
    fault=st.sampled_from(["end", "reset", "stall"]),
    cut=st.one_of(st.integers(0, 120), st.integers(0, 500)),
)
others = st.builds(Attempt, kind=st.sampled_from(["refuse", "hang", "good"]))
scripts = st.lists(st.one_of(statuses, cuts, others), max_size=6)


def good(way: Way) -> bytes:
    if way == "create":
        return json_reply(completion("Hello")).data
    return sse_reply(PLAIN).data


class Network(MemoryNetwork):
    """Plays one attempt after the other, its connecting included."""

    def __init__(self, attempts: list[Attempt], way: Way) -> None:
        self._attempts = iter(attempts)
        self._way: Way = way
        self._now = Attempt()
        super().__init__(self._reply)

    async def connect_tcp(self, *args: Any, **options: Any) -> MemoryStream:
        self._now = next(self._attempts, Attempt())
        self.refuse = int(self._now.kind == "refuse")
        self.stall = int(self._now.kind == "hang")
        return await super().connect_tcp(*args, **options)

    def _reply(self, request: RecordedRequest) -> Reply:
        attempt = self._now
        if attempt.kind == "status":
            headers = {**attempt.headers, "connection": "close"}
            return error_reply(attempt.status, code=attempt.code, headers=headers)
        data = good(self._way)
        # A connection each, so that each attempt has a connecting of its own.
        data = data.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)
        if attempt.kind == "cut":
            return cut(data, attempt.cut, attempt.fault)
        return reply(data)


@dataclass
class Expected:
    """What has to come of a script."""

    connects: int = 0
    requests: int = 0
    error: type[penstock.PenstockError] | None = None
    least: float = 0.0
    """Seconds it takes, at the least and at the most, for jitter."""
    most: float = 0.0


def expect(attempts: list[Attempt], way: Way, max_retries: int) -> Expected:
    """Rule 12 of the wire (docs/pages/internals/wire.md), one condition after the other."""
    expected = Expected()
    data = good(way)
    head = data.index(b"\r\n\r\n") + 4 + len(b"connection: close\r\n")
    size = len(data) + len(b"connection: close\r\n")
    for failures, attempt in enumerate([*attempts, *[Attempt()] * 20], start=1):
        expected.connects += 1
        expected.requests += attempt.kind not in ("refuse", "hang")
        transient = True
        wait: float | None = None
        error: type[penstock.PenstockError]
        if attempt.kind == "refuse":
            error = penstock.APIConnectionError
        elif attempt.kind == "hang":
            error = penstock.ConnectTimeout
            expected.least += CONNECT
            expected.most += CONNECT
        elif attempt.kind == "status":
            error, transient, wait = _of_status(attempt)
        elif attempt.kind == "cut" and attempt.cut < size:
            sent = data.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)[: attempt.cut]
            if b"[DONE]\n\n" in sent:
                return expected
            if attempt.fault == "stall":
                expected.least += READ
                expected.most += READ
                expected.error = penstock.ReadTimeout
                return expected
            if attempt.cut > head:
                expected.error = penstock.StreamInterruptedError
                return expected
            error = penstock.APIConnectionError
        else:
            return expected
        if not transient or failures > max_retries or (wait is not None and wait > CAP):
            expected.error = error
            return expected
        longest = min(0.5 * 2 ** (failures - 1), 8.0)
        expected.least += longest * 0.75 if wait is None else wait
        expected.most += longest if wait is None else wait
    raise AssertionError


def _of_status(attempt: Attempt) -> tuple[type[penstock.PenstockError], bool, float | None]:
    error = {
        400: penstock.BadRequestError,
        401: penstock.AuthenticationError,
        402: penstock.InsufficientCreditsError,
        403: penstock.PermissionDeniedError,
        404: penstock.NotFoundError,
        409: penstock.ConflictError,
        422: penstock.UnprocessableEntityError,
        429: penstock.RateLimitError,
        503: penstock.EndpointNotReadyError,
    }.get(attempt.status)
    if error is None:
        internal = attempt.status >= 500
        error = penstock.InternalServerError if internal else penstock.APIStatusError
    transient = attempt.status in (408, 409, 429) or attempt.status >= 500
    advice = attempt.headers.get("x-should-retry")
    if advice in ("true", "false"):
        transient = advice == "true"
    if attempt.status == 402 or attempt.code == "insufficient_quota":
        transient = False
    wait = {"250": 0.25, "60001": 60.001, "0": 0.0}.get(attempt.headers.get("retry-after-ms", ""))
    if wait is None:
        named = {"0": 0.0, "1": 1.0, "7.5": 7.5, "60": 60.0, "61": 61.0, "-3": 0.0}
        wait = named.get(attempt.headers.get("retry-after", ""))
    return error, transient, wait


async def run(client: AsyncClient, way: Way) -> object:
    if way == "create":
        return await client.chat.completions.create(**REQUEST)
    if way == "complete":
        return await client.complete(REQUEST)
    stream = client.chat.completions.stream(**REQUEST)
    if way == "bare":
        return [chunk async for chunk in stream]
    async with stream:
        return [chunk async for chunk in stream]


@backends
@given(
    attempts=scripts,
    way=st.sampled_from(["block", "bare", "complete", "create"]),
    max_retries=st.integers(0, 4),
)
def test_any_script(backend: str, attempts: list[Attempt], way: Way, max_retries: int) -> None:
    count("examples")
    expected = expect(attempts, way, max_retries)

    async def main() -> None:
        network = Network(attempts, way)
        error: penstock.PenstockError | None = None
        timeouts = Timeouts(connect=CONNECT, read=READ, trailing=None)
        async with AsyncClient(
            URL, network=network, timeouts=timeouts, max_retries=max_retries
        ) as client:
            start = anyio.current_time()
            try:
                await run(client, way)
            except penstock.PenstockError as caught:
                error = caught
            took = anyio.current_time() - start
        assert (None if error is None else type(error)) is expected.error
        assert len(network.connects) == expected.connects <= 1 + max_retries
        assert len(network.requests) == expected.requests
        # The moment of draining behind [DONE] is not part of the rules.
        assert expected.least - 1e-6 <= took <= expected.most + 0.051
        assert network.open_connections == 0

    run_virtually(backend, main)


pytest_anyio = pytest.mark.anyio


@pytest_anyio
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("fault", ["end", "reset", "stall"])
async def test_on_sockets(fault: Fault, tls: bool) -> None:
    data = RECORDINGS["chunked-segments"]
    head = data.index(b"\r\n\r\n") + 4

    async def one(n: int) -> None:
        async with serve([cut(data, n, fault), sse_reply(PLAIN)], tls=tls) as server:
            async with AsyncClient(
                server.base_url,
                ssl_context=server.client_ssl_context() if tls else None,
                timeouts=Timeouts(read=1.5 if fault == "stall" else 60.0, trailing=None),
                max_retries=5,
            ) as client:
                with pytest.raises(penstock.APIConnectionError) as caught:
                    await client.complete(REQUEST)
                assert caught.value.partial is not None
            assert len(server.requests) == 1

    # All at once, since those that stall take their time.
    async with anyio.create_task_group() as group:
        for n in (head + 1, head + 2, head + 6, head + 60, len(data) - 7, len(data) - 1):
            group.start_soon(one, n)


@pytest_anyio
async def test_a_connection_that_went_stale_is_replaced_at_once() -> None:
    # Dead before any byte of a response: the request is sent again without waiting.
    stale = reply(Reset())
    async with serve([sse_reply(PLAIN), stale, sse_reply(PLAIN)]) as server:
        async with AsyncClient(server.base_url) as client:
            await client.complete(REQUEST)
            with anyio.fail_after(0.4):
                await client.complete(REQUEST)
        assert len(server.connections) == 2
        assert len(server.requests) == 3


@backends
def test_an_attempt_is_judged_by_itself(backend: str) -> None:
    # Found by the test above: the body of the first refusal was taken for the second's.
    attempts = [Attempt("status", 408), Attempt("refuse")]
    ways: list[Way] = ["block", "create"]
    for way in ways:
        assert expect(attempts, way, 1).error is penstock.APIConnectionError

        async def main(way: Any = way) -> None:
            network = Network(attempts, way)
            async with AsyncClient(URL, network=network, max_retries=1) as client:
                with pytest.raises(penstock.APIConnectionError) as caught:
                    await run(client, way)
            assert type(caught.value) is penstock.APIConnectionError
            network = Network(attempts, way)
            async with AsyncClient(URL, network=network, max_retries=2) as client:
                await run(client, way)

        run_virtually(backend, main)


@backends
def test_retry_after_is_kept_to_the_instant(backend: str) -> None:
    async def main() -> None:
        for headers, wait in [
            ({"retry-after": "2"}, 2.0),
            ({"retry-after": "0"}, 0.0),
            ({"retry-after": "1.25"}, 1.25),
            ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
            ({"retry-after": "60"}, 60.0),
        ]:
            network = MemoryNetwork([error_reply(429, headers=headers), sse_reply(PLAIN)])
            async with AsyncClient(URL, network=network) as client:
                await client.complete(REQUEST)
            first, second = network.requests
            assert second.time - first.time == pytest.approx(wait, abs=1e-9)
        date = email.utils.formatdate(time.time() + 30, usegmt=True)
        network = MemoryNetwork([error_reply(503, headers={"retry-after": date}), sse_reply(PLAIN)])
        async with AsyncClient(URL, network=network) as client:
            await client.complete(REQUEST)
        first, second = network.requests
        assert 25.0 < second.time - first.time <= 30.0

    run_virtually(backend, main)


@backends
def test_a_wait_over_the_cap_is_raised_at_once(backend: str) -> None:
    async def main() -> None:
        for headers, wait, cap in [
            ({"retry-after": "61"}, 61.0, 60.0),
            ({"retry-after-ms": "5001"}, 5.001, 5.0),
        ]:
            network = MemoryNetwork(error_reply(429, headers=headers))
            async with AsyncClient(URL, network=network, max_retry_wait=cap) as client:
                for way in ("block", "create"):
                    start = anyio.current_time()
                    with pytest.raises(penstock.RateLimitError) as caught:
                        await run(client, way)
                    assert caught.value.retry_after == wait
                    assert anyio.current_time() == start
            assert len(network.requests) == 2

    run_virtually(backend, main)


@backends
@given(
    attempts=st.lists(st.one_of(statuses, cuts), max_size=4),
    slices=st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.3, 9.0]), min_size=1, max_size=5),
)
def test_reads_that_are_broken_off_send_nothing_twice(
    backend: str, attempts: list[Attempt], slices: list[float]
) -> None:
    count("examples")
    # Whatever the user's own timeouts cut: after the first byte of a body, no further request.
    begun: list[int] = []

    def script(request: RecordedRequest) -> Reply:
        attempt = attempts[len(begun)] if len(begun) < len(attempts) else Attempt()
        begun.append(0)
        if attempt.kind == "status":
            return error_reply(attempt.status, code=attempt.code, headers=attempt.headers)
        data = sse_reply(PLAIN).data
        head = data.index(b"\r\n\r\n") + 4
        size = min(attempt.cut, len(data)) if attempt.kind == "cut" else len(data)
        begun[-1] = int(size > head)
        steps: list[Step] = [Send(data[:head]), Pause(0.3), Send(data[head:size])]
        return Reply((*steps, *((Reset(),) if attempt.fault == "reset" else (Stall(),))))

    async def main() -> None:
        begun.clear()
        network = MemoryNetwork(script)
        async with AsyncClient(
            URL, network=network, timeouts=Timeouts(read=20.0), max_retries=4
        ) as client:
            stream = client.chat.completions.stream(**REQUEST)
            turns = 0
            try:
                while turns < 400:
                    with anyio.move_on_after(slices[turns % len(slices)]):
                        await anext(stream)
                    turns += 1
                    await anyio.sleep(0.01)
            except (StopAsyncIteration, penstock.PenstockError):
                pass
            await stream.aclose()
        assert sum(begun[:-1]) == 0, f"sent again after a byte of a body: {begun}"
        assert network.open_connections == 0

    run_virtually(backend, main)
