"""With an http client of the caller's own the SDK sends, and a cut is still an error."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import anyio
import openai
import pytest
from openai.types.chat import ChatCompletionChunk

import penstock
from penstock.compat.openai import AsyncOpenAI, OpenAI
from penstock.compat.openai._foreign import choices_of
from penstock.compat.openai._http import _GENERATION
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import sse_event, tokens
from tests.support.chat import KEY, URL
from tests.support.openai_clients import REQUEST, STREAMED, drain, drain_blocking, text_of

__all__ = ["anyio_backend"]

# httpx leaves some of its own behind, which trio notes.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")

httpx: Any = __import__(_GENERATION)

EVENTS = [*map(sse_event, tokens("Hel", "lo")), sse_event("[DONE]")]
HEADERS = {"content-type": "text/event-stream"}


class Pieces(httpx.AsyncByteStream, httpx.SyncByteStream):  # type: ignore[misc]
    """A body in pieces; an exception among them is raised, None never ends."""

    def __init__(self, *pieces: Any) -> None:
        self.pieces = pieces
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:  # noqa: ASYNC900 - as httpx has it
        for piece in self.pieces:
            if piece is None:
                await anyio.sleep_forever()
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def aclose(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True


class Scripted(httpx.AsyncBaseTransport, httpx.BaseTransport):  # type: ignore[misc]
    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[Any] = []

    def handle_request(self, request: Any) -> Any:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            return httpx.Response(answer, json={"error": {"message": "no"}})
        return httpx.Response(200, headers=HEADERS, stream=answer)

    async def handle_async_request(self, request: Any) -> Any:
        return self.handle_request(request)


def async_client(transport: Any, **options: Any) -> AsyncOpenAI:
    http = httpx.AsyncClient(transport=transport)
    client = AsyncOpenAI(api_key=KEY, base_url=URL, http_client=http, **options)
    client._platform = "Linux"
    return client


def client_on(transport: Any) -> OpenAI:
    return OpenAI(api_key=KEY, base_url=URL, http_client=httpx.Client(transport=transport))


def resets() -> Any:
    return httpx.ReadError("reset")


CUTS = [
    (Pieces(*EVENTS[:3]), openai.APIConnectionError, penstock.IncompleteStreamError),
    (Pieces(*EVENTS[:3], resets()), openai.APIConnectionError, penstock.StreamInterruptedError),
    (Pieces(*EVENTS[:3], OSError("x")), openai.APIConnectionError, penstock.StreamInterruptedError),
    (Pieces(*EVENTS[:3], httpx.ReadTimeout("t")), openai.APITimeoutError, penstock.ReadTimeout),
    (Pieces(*EVENTS[:3], b'data: {"error": "no"}\n\n'), openai.APIError, penstock.StreamError),
    (Pieces(*EVENTS[:3], b"data: x\n\n"), openai.APIError, penstock.APIResponseError),
]
cuts = pytest.mark.parametrize(("body", "error", "cause"), CUTS, ids=range(len(CUTS)))


@pytest.mark.anyio
async def test_a_whole_stream() -> None:
    body = Pieces(*EVENTS)
    async with async_client(Scripted(body)) as client:
        stream = await client.chat.completions.create(**STREAMED)
        chunks = await drain(stream)
        assert text_of(chunks) == "Hello"
        assert all(type(chunk) is ChatCompletionChunk for chunk in chunks)
        assert body.closed
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


@pytest.mark.anyio
@pytest.mark.parametrize("rest", [[], [b"\n"], [resets()], [None]], ids=range(4))
async def test_the_body_is_read_to_its_end(rest: Any) -> None:
    # Else a client of httpx would not use the connection again.
    ended: list[Any] = []

    class Rest(Pieces):
        async def __aiter__(self) -> AsyncIterator[bytes]:  # noqa: ASYNC900 - as httpx has it
            for event in EVENTS:
                yield event
            async for piece in Pieces(*rest):
                yield piece
            ended.append(anyio.current_time())

    body = Rest()
    async with async_client(Scripted(body)) as client:
        began = anyio.current_time()
        chunks = await drain(await client.chat.completions.create(**STREAMED))
        assert text_of(chunks) == "Hello"
        # It ends soon, or is given up.
        assert len(ended) == (rest in ([], [b"\n"]))
        assert anyio.current_time() - began == (pytest.approx(0.1) if rest == [None] else 0)
        assert body.closed


@pytest.mark.anyio
@cuts
async def test_a_cut_is_an_error(body: Any, error: type[Exception], cause: Any) -> None:
    async with async_client(Scripted(body)) as client:
        stream = await client.chat.completions.create(**STREAMED)
        got: list[Any] = []
        for _ in range(2):  # who reads on meets it again
            with pytest.raises(error) as caught:
                await drain(stream, got)
            below: Any = caught.value.__cause__
            assert type(below) is cause
            assert text_of(got) == "Hello"
            assert below.partial.choices[0].message.content == "Hello"
        assert body.closed


@cuts
def test_a_cut_is_an_error_when_blocking(body: Any, error: type[Exception], cause: Any) -> None:
    with client_on(Scripted(body)) as client:
        stream = client.chat.completions.create(**STREAMED)
        got: list[Any] = []
        for _ in range(2):
            with pytest.raises(error) as caught:
                drain_blocking(stream, got)
            assert type(caught.value.__cause__) is cause
            assert text_of(got) == "Hello"


def test_a_whole_stream_when_blocking() -> None:
    with client_on(Scripted(Pieces(*EVENTS))) as client:
        stream = client.chat.completions.create(**STREAMED)
        assert text_of(list(stream)) == "Hello"
        assert list(stream) == []
        assert stream.response.is_closed


@pytest.mark.anyio
async def test_a_cancelled_read_closes_the_response() -> None:
    body = Pieces(*EVENTS[:2], None)
    async with async_client(Scripted(body)) as client:
        stream = await client.chat.completions.create(**STREAMED)
        with anyio.move_on_after(1):
            await drain(stream)
        assert body.closed
        with pytest.raises(openai.APIConnectionError) as caught:
            await anext(stream)
        assert isinstance(caught.value.__cause__, penstock.StreamClosedError)


@pytest.mark.anyio
async def test_closing_in_the_middle() -> None:
    body = Pieces(*EVENTS)
    async with async_client(Scripted(body)) as client:
        async with await client.chat.completions.create(**STREAMED) as stream:
            await anext(stream)
        assert body.closed
        with pytest.raises(openai.APIConnectionError):
            await anext(stream)


@pytest.mark.anyio
async def test_another_kind_of_error_passes() -> None:
    async with async_client(Scripted(Pieces(EVENTS[0], KeyError("a bug")))) as client:
        stream = await client.chat.completions.create(**STREAMED)
        await anext(stream)
        with pytest.raises(KeyError):
            await anext(stream)


@pytest.mark.parametrize(
    ("body", "extra", "expected"),
    [({"n": 3}, None, 3), ({"n": 3}, {"n": 2}, 2), ({}, None, 1), (b"{}", None, 1), (None, {}, 1)],
)
def test_how_many_choices_are_asked_for(body: Any, extra: Any, expected: int) -> None:
    options = SimpleNamespace(json_data=body, extra_json=extra)
    assert choices_of(options) == expected
    assert choices_of(None) == 1


@pytest.mark.anyio
async def test_retries_are_the_sdks() -> None:
    transport = Scripted(500, Pieces(*EVENTS))
    async with async_client(transport, max_retries=1) as client:
        stream = await client.chat.completions.create(**STREAMED)
        assert text_of(await drain(stream)) == "Hello"
    assert len(transport.requests) == 2


@pytest.mark.anyio
async def test_its_whole_answers_are_the_sdks() -> None:
    async with async_client(Scripted(400)) as client:
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(**REQUEST)
