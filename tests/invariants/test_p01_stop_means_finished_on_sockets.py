"""Promise 1 on real sockets, TCP and TLS: what the kernel and the TLS layer make of the cuts."""

from __future__ import annotations

import anyio
import pytest

import penstock
from penstock import AsyncClient, Timeouts
from penstock.testing.script import RecordedRequest, Reply
from penstock.testing.server import serve
from tests.support.chat import REQUEST
from tests.support.sweeps import EVERYTHING

from .evidence import count
from .recorded import FAULTS, RECORDINGS, Fault, Text, cut, read, text_of, worth

pytestmark = pytest.mark.anyio

NAMES = ["chunked-done", "length", "close", "two-choices", "litellm-usage"]
AT_ONCE = 3  # more of them, and a busy machine needs longer than the deadline


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", NAMES)
async def test_cut_on_a_socket(name: str, fault: Fault, tls: bool) -> None:
    data = RECORDINGS[name]
    step = (31 if tls else 13) * (1 + 3 * (len(data) > 1000)) * (1 if EVERYTHING else 7)
    # Every offset around the places where the meaning changes: the head's end and the last ones.
    head = data.index(b"\r\n\r\n") + 4
    cuts = {*range(NAMES.index(name), len(data), step), head, head + 1}
    cuts |= set(range(len(data) - 2, len(data) + 1))
    count("offsets", len(cuts))

    def script(request: RecordedRequest) -> Reply:
        return cut(data, int(request.headers["x-cut"]), fault)

    timeouts = Timeouts(read=0.25 if fault == "stall" else 600.0)
    slots = anyio.Semaphore(AT_ONCE)
    async with serve(script, tls=tls) as server:
        context = server.client_ssl_context() if tls else None

        async def one(n: int) -> None:
            expected = worth(data, n, fault, penstock.ReadTimeout)
            text = Text()
            error: penstock.PenstockError | None = None
            # A client each: a connection that breaks when it is used again is another matter.
            client = AsyncClient(
                server.base_url, timeouts=timeouts, max_retries=0, ssl_context=context
            )
            async with slots, client:
                stream = client.chat.completions.stream(**REQUEST, extra_headers={"x-cut": str(n)})
                try:
                    async with stream:
                        await read(stream, text)
                except penstock.PenstockError as caught:
                    error = caught
            where = f"{name}, {fault} after {n} bytes"
            assert (None if error is None else type(error)) is expected.error, where
            assert text == expected.text, where
            assert text_of(stream.partial) == expected.text, where

        async with anyio.create_task_group() as group:
            for n in sorted(cuts):
                group.start_soon(one, n)
        await server.wait_closed(len(server.connections))
        assert len(server.requests) == len(cuts)


@pytest.mark.parametrize("name", ["close", "close-done", "chunked-done"])
async def test_a_cut_without_close_notify_is_no_end(name: str) -> None:
    # TLS tells a polite end from a cut (RFC 8446, 6.1); a reset is the surest cut there is.
    data = RECORDINGS[name]
    n = len(data) if name == "close" else data.index(b"[DONE]")
    async with serve(cut(data, n, "reset"), tls=True) as server:
        async with AsyncClient(
            server.base_url, ssl_context=server.client_ssl_context(), max_retries=0
        ) as client:
            with pytest.raises(penstock.StreamInterruptedError) as caught:
                await client.complete(REQUEST)
            assert type(caught.value) is penstock.StreamInterruptedError
            assert text_of(caught.value.partial).choices[0] == "Héllo"
        assert len(server.requests) == 1
