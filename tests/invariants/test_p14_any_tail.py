"""Promise 14 whatever comes after an answer, however it is cut, and whenever it comes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from penstock import AsyncClient
from penstock.testing.cuts import split_at
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import completion, json_reply, sse_reply
from penstock.testing.script import Pause, RecordedRequest, Reply, Send, Step
from tests.support.chat import REQUEST, URL

from .evidence import count
from .recorded import FINISH, delta, text_of
from .virtual_uvloop import virtual_backend as anyio_backend

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

Way = Callable[[AsyncClient], Awaitable[str]]


async def streamed(client: AsyncClient) -> str:
    async with client.chat.completions.stream(**REQUEST) as stream:
        return text_of(await stream.collect()).choices[0]


async def bare(client: AsyncClient) -> str:
    return text_of(await client.chat.completions.stream(**REQUEST).collect()).choices[0]


async def created(client: AsyncClient) -> str:
    return text_of(await client.chat.completions.create(**REQUEST)).choices[0]


WAYS = st.sampled_from([streamed, bare, created])


def answer(request: RecordedRequest, *, chunked: bool) -> Reply:
    """The number of the connection, in the form that was asked for."""
    text = f"on {request.connection}"
    if request.json.get("stream"):
        return sse_reply([delta(text), FINISH], chunked=chunked)
    return json_reply(completion(text), chunked=chunked)


# Pieces of answers with which somebody would fill in, and any bytes.
EVIL = sse_reply([delta("evil"), FINISH]).data, json_reply(completion("evil")).data
TAILS = st.one_of(
    st.sampled_from(EVIL),
    st.builds(lambda whole, n: whole[:n], st.sampled_from(EVIL), st.integers(1, 200)),
    st.builds(lambda n, whole: b"\r\n" * n + whole, st.integers(0, 3), st.sampled_from(EVIL)),
    st.sampled_from([b"0\r\n\r\n", b"\r\n", b"\n", b"\0"]),
    st.binary(min_size=1, max_size=20),
)


@given(
    first=WAYS,
    second=WAYS,
    chunked=st.booleans(),
    tail=TAILS,
    places=st.lists(st.integers(1, 700), max_size=5),
    late=st.none() | st.sampled_from([0.0, 0.01, 0.5, 4.0]),
    idle=st.sampled_from([5.0, 30.0]),
)
async def test_no_answer_is_ever_anothers(
    first: Way,
    second: Way,
    chunked: bool,
    tail: bytes,
    places: list[int],
    late: float | None,
    idle: float,
) -> None:
    count("examples")

    def script(request: RecordedRequest) -> Reply:
        whole = answer(request, chunked=chunked)
        if request.connection:
            return whole
        # In one segment with the answer's last bytes, or so many seconds behind them.
        more: tuple[Step, ...] = () if late is None else (Pause(late), Send(tail))
        data = whole.data + (tail if late is None else b"")
        cut = split_at(Reply((Send(data),)), sorted({n for n in places if n < len(data)}))
        return Reply((*cut.steps, *more))

    network = MemoryNetwork(script)
    async with AsyncClient(URL, network=network, max_retries=0) as client:
        assert await first(client) == "on 0"
        kept = network.open_connections
        event(f"kept until the tail came: {bool(kept)}")
        await anyio.sleep(idle)
        assert await second(client) == "on 1"
        assert await first(client) == "on 1"
        assert network.connections[0].closed_at is not None
        assert [request.connection for request in network.requests] == [0, 1, 1]


@given(
    first=WAYS,
    second=WAYS,
    chunked=st.booleans(),
    places=st.lists(st.integers(1, 700), max_size=8),
)
async def test_without_a_tail_the_connection_is_used_again(
    first: Way, second: Way, chunked: bool, places: list[int]
) -> None:
    # However it was cut: else the promise would be kept by never keeping anything.
    count("examples")

    def script(request: RecordedRequest) -> Reply:
        whole = answer(request, chunked=chunked)
        size = len(whole.data)
        return split_at(Reply((Send(whole.data),)), sorted({n for n in places if n < size}))

    network = MemoryNetwork(script)
    async with AsyncClient(URL, network=network, max_retries=0) as client:
        for way in (first, second, first):
            assert await way(client) == "on 0"
            await anyio.sleep(1.0)
    assert len(network.connections) == 1
