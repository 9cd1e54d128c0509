"""The key is in no picture, error, traceback, log record, pickle or value for an observer.

Neither are the credentials of a proxy and of the caller's own headers. A server that sends any
of them back changes nothing about that.
"""

from __future__ import annotations

import base64
import logging
import string
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock
from penstock import AsyncClient, Client, PenstockError, Timeouts, race
from penstock.testing.clock import virtual
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import (
    completion,
    error_reply,
    json_reply,
    sse_reply,
    status_reply,
    tokens,
)
from penstock.testing.script import End, Reply, Reset, Send, Stall, reply
from tests.support.chat import MESSAGES, REQUEST, Watcher, client_on

from .seen import all_of, log_of, variables_of

KEY = "sk-Secret/0123456789abcdef"

# --- what a server may send back, where, and in front of how much of it it is cut ---

JSON = {"content-type": "application/json"}
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def head(line: str) -> Reply:
    return reply(f"HTTP/1.1 200 OK\r\n{line}\r\n\r\n".encode("latin-1"), End())


IN_BODIES: dict[str, Callable[[str], Reply]] = {
    "message": lambda echo: error_reply(400, f"bad key {echo}"),
    "code": lambda echo: error_reply(400, "m", code=echo, type=echo),
    "detail": lambda echo: json_reply({"detail": [{"loc": [echo], "msg": echo}]}, 422),
    "member": lambda echo: json_reply({echo: [{echo: echo}]}, 500),
    "text": lambda echo: status_reply(403, f"forbidden for {echo}"),
    "wrong address": lambda echo: status_reply(404, echo),
    "page": lambda echo: status_reply(502, f"<html><title>{echo}</title>{echo}</html>"),
    "broken json": lambda echo: status_reply(500, f'{{"error": "{echo}', JSON),
    "in the stream": lambda echo: sse_reply([*tokens("a"), {"error": {"message": echo}}]),
    "code in the stream": lambda echo: sse_reply([{"error": {"message": "m", "code": echo}}]),
    "text in the stream": lambda echo: sse_reply([f"event: error\ndata: {echo}\n\n".encode()]),
    "a list in the stream": lambda echo: sse_reply([{"error": [echo, {echo: [echo]}]}]),
    "no stream": lambda echo: status_reply(200, f"hello {echo}", {"content-type": "text/plain"}),
    "no json": lambda echo: sse_reply(["{" + echo]),
    "no utf-8": lambda echo: sse_reply([b'data: {"a":"\xff' + echo.encode() + b"\n\n"]),
    "whole error": lambda echo: json_reply({"error": {"message": echo}}),
    "no models": lambda echo: json_reply({"data": 5, "a": echo}),
    "chunk size": lambda echo: reply(CHUNKED + f"{echo}\r\n".encode(), End()),
    "end of chunk": lambda echo: reply(CHUNKED + f"1\r\na{echo}\r\n".encode(), End()),
    "trailer": lambda echo: reply(CHUNKED + f"0\r\n{echo}\r\n\r\n".encode(), End()),
}
IN_HEADS: dict[str, Callable[[str], Reply]] = {
    "header": lambda echo: error_reply(400, headers={"x-echo": echo, "x-request-id": echo}),
    "redirect": lambda echo: status_reply(302, headers={"location": f"http://x.test/{echo}"}),
    "content type": lambda echo: status_reply(200, "text", {"content-type": echo}),
    "coding": lambda echo: status_reply(200, "text", {"content-encoding": echo}),
    "transfer coding": lambda echo: head(f"transfer-encoding: {echo}"),
    "length": lambda echo: head(f"content-length: {echo}"),
    "odd header": lambda echo: head(f"{echo}: \x01"),
    "no header": lambda echo: head(f"({echo})"),
    "no head": lambda echo: reply(f"{echo} {echo}\r\n\r\n".encode(), End()),
    "phrase": lambda echo: reply(f"HTTP/1.1 500 {echo}\r\ncontent-length: 0\r\n\r\n".encode()),
}
# What says nothing of its own: the key still has to stay where it is.
SILENT: dict[str, Callable[[str], Reply]] = {
    "end": lambda _: reply(End()),
    "reset": lambda _: reply(Reset()),
    "stall": lambda _: reply(Stall()),
    "cut": lambda _: sse_reply([*tokens("a", finish=None), Reset()]),
    "incomplete": lambda _: sse_reply(tokens("a", finish=None), done=False),
    "half a head": lambda _: reply(b"HTTP/1.1 200 O", End()),
    "status": lambda _: status_reply(401),
}
ECHOES = {**IN_BODIES, **IN_HEADS, **SILENT}


async def bare(client: AsyncClient) -> object:
    return [chunk async for chunk in client.chat.completions.stream(**REQUEST)]


async def raced(client: AsyncClient) -> object:
    async with race(client, [REQUEST, REQUEST]) as stream:
        return await stream.collect()


async def asked(client: AsyncClient) -> object:
    return (await client.request("GET", "/x")).json()


WAYS: dict[str, Callable[[AsyncClient], Awaitable[object]]] = {
    "complete": lambda client: client.complete(REQUEST),
    "create": lambda client: client.chat.completions.create(**REQUEST),
    "models": lambda client: client.models.list(),
    "bare": bare,
    "race": raced,
    "request": asked,
}

TIMEOUTS = Timeouts(read=5, total=60)


def seen_of(script: Reply, way: str, backend: str, **options: Any) -> str:
    """Everything that shows of one failed call, also of its second attempt."""
    handler = _Records()
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    watcher = Watcher()
    shown: list[str] = []

    async def main() -> None:
        network = MemoryNetwork(script)
        async with client_on(
            network, observer=watcher, max_retries=1, timeouts=TIMEOUTS, **options
        ) as client:
            shown.append(repr(client))
            try:
                await WAYS[way](client)
            except PenstockError as error:
                shown.extend([all_of(error), variables_of(error)])

    try:
        name, how = virtual(backend)
        anyio.run(main, backend=name, backend_options=how)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    for _, event in watcher.events:
        shown.append(repr(event))
        failed = getattr(event, "error", None)
        if failed is not None:
            shown += [all_of(failed), variables_of(failed)]
    shown.append(log_of(handler.records))
    return "\n".join(shown)


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def assert_unseen(secret: str, shown: str) -> None:
    # No beginning of it either: an excerpt may have been cut inside.
    at = shown.lower().find(secret[:8].lower())
    assert at < 0, shown[max(0, at - 300) : at + 100]


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_whatever_a_server_sends_back(echo: str, backend: str) -> None:
    for way in WAYS:
        script = ECHOES[echo](KEY)
        assert_unseen(KEY, seen_of(script, way, backend, api_key=KEY))


# Visible characters, as keys have them; with some that JSON, pages and addresses write otherwise.
# With a digit, so that none is a word of the source, as "ENCODING" is of EncodingError.
key_texts = st.text(string.ascii_letters + string.digits + "-_./+=~&<>'\"\\%", min_size=8).filter(
    lambda key: (
        len(set(key[:8].lower())) > 4
        and "." not in key[:9]
        and any(char.isdecimal() for char in key[:8])
    )
)


@given(
    key=key_texts,
    echo=st.sampled_from(sorted(ECHOES)),
    way=st.sampled_from(sorted(WAYS)),
    backend=st.sampled_from(["asyncio", "trio"]),
    before=st.integers(0, 520) | st.sampled_from([0, 60, 70, 180, 190, 480, 490, 4080]),
    after=st.sampled_from(["", "q", '"', " and more", "..."]),
)
def test_any_key_anywhere(
    key: str, echo: str, way: str, backend: str, before: int, after: str
) -> None:
    script = ECHOES[echo]("q" * before + key + after)
    assert_unseen(key, seen_of(script, way, backend, api_key=key))


@pytest.mark.parametrize("echo", [*IN_BODIES, *IN_HEADS])
def test_where_an_excerpt_is_cut(echo: str) -> None:
    # Excerpts have 20, 80, 200 or 500 characters.
    for before in (2, 50, 58, 64, 68, 177, 180, 184, 188, 477, 480, 486, 488):
        script = ECHOES[echo]("q" * before + KEY)
        assert_unseen(KEY, seen_of(script, "complete", "asyncio", api_key=KEY))


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"authorization": KEY},
        {"x-api-key": KEY},
        {"api-key": KEY},
        {"Cookie": KEY},
        {"CF-Access-Client-Secret": KEY},
        {"x-auth-token": KEY},
    ],
)
@pytest.mark.parametrize("echo", ["message", "chunk size", "header", "end"])
def test_credentials_in_headers_of_the_callers_own(echo: str, headers: dict[str, str]) -> None:
    for options in ({"api_key": None}, {"api_key": "another-key-0000"}):
        script = ECHOES[echo](KEY)
        shown = seen_of(script, "complete", "asyncio", headers=headers, **options)
        assert_unseen(KEY, shown)


@pytest.mark.parametrize("echo", ["message", "header", "no head", "phrase", "end"])
@pytest.mark.parametrize("origin", ["http", "https"])
def test_the_password_of_a_proxy(origin: str, echo: str) -> None:
    password = "pass-Word-0123456789"
    pair = base64.b64encode(f"me:{password}".encode()).decode()
    for secret in (password, pair):
        shown = seen_of(
            ECHOES[echo](secret),
            "complete",
            "asyncio",
            base_url=f"{origin}://api.test/v1",
            proxy=f"http://me:{password}@proxy.test",
        )
        assert_unseen(password, shown)
        assert_unseen(pair, shown)


def test_a_key_that_changes_with_each_attempt() -> None:
    # The server sends back the key of the attempt, or the one before.
    numbers = count()

    def fresh() -> str:
        return f"{next(numbers)}{KEY}"

    def script(request: Any) -> Reply:
        return error_reply(503, request.headers["authorization"], headers={"retry-after": "0"})

    async def main() -> str:
        watcher = Watcher()
        network = MemoryNetwork(script)
        async with client_on(network, api_key=fresh, observer=watcher, max_retries=3) as client:
            with pytest.raises(penstock.EndpointNotReadyError) as caught:
                await client.complete(REQUEST)
        assert [request.headers["authorization"][7:8] for request in network.requests] == [*"0123"]
        return (
            all_of(caught.value)
            + repr(watcher.events)
            + "".join(all_of(event.error) for event in watcher.of("attempt_failed"))
        )

    name, how = virtual("asyncio")
    assert KEY not in anyio.run(main, backend=name, backend_options=how)


# --- the pictures of everything public ---


def test_no_picture_shows_it() -> None:
    shown: list[str] = []
    source = MemoryNetwork([sse_reply(tokens("a")), json_reply(completion("b"))])

    async def main() -> None:
        async with client_on(
            source, api_key=KEY, headers={"x-api-key": KEY}, limiter=penstock.Limiter(3)
        ) as client:
            shown.extend(map(repr, (client, client.chat, client.chat.completions, client.models)))
            stream = client.chat.completions.stream(**REQUEST, extra_headers={"api-key": KEY})
            shown.append(repr(stream))
            async with stream:
                shown.extend([repr(stream), repr(stream.text), repr(stream.headers)])
                chunk = await anext(stream)
                whole = await stream.collect()
                shown.extend(map(repr, (chunk, whole, stream.statistics(), stream.partial)))
            response = await client.request("POST", "/x", json={})
            shown.extend(map(repr, (response, response.headers, client.provider)))
            shown.append(repr(vars(client)))

    name, how = virtual("asyncio")
    anyio.run(main, backend=name, backend_options=how)
    with Client("http://api.test", api_key=KEY, headers={"x-api-key": KEY}) as blocking:
        shown.extend(map(repr, (blocking, blocking.chat, blocking.models, vars(blocking))))
    assert len(shown) > 15
    assert_unseen(KEY, "\n".join(shown))


def test_what_is_forgotten_says_so_without_it() -> None:
    async def main() -> None:
        network = MemoryNetwork(sse_reply([*tokens("a"), Stall()]))
        client = client_on(network, api_key=KEY)
        stream = client.chat.completions.stream(**REQUEST)
        await anext(stream)
        with pytest.warns(ResourceWarning) as caught:
            del stream
        assert_unseen(KEY, "\n".join(f"{warning.message} {warning!r}" for warning in caught))
        await client.aclose()

    name, how = virtual("asyncio")
    anyio.run(main, backend=name, backend_options=how)


# --- arguments in the wrong place ---


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": KEY},
        {"base_url": f"https://{KEY.replace('/', '-')}@api.test/v1"},
        {"base_url": f"https://api.test/v1?key={KEY}#part"},
        {"base_url": f"ftp://{KEY}"},
        {"base_url": f"Bearer {KEY}"},
        {"provider": KEY},
        {"headers": {f"Authorization: Bearer {KEY}": ""}},
        {"headers": {KEY + "\n": "x"}},
        {"headers": {"x-api-key": KEY + "\n"}},
        {"headers": {"x-api-key": KEY.encode()}},
        {"headers": f"Authorization: Bearer {KEY}"},
        {"timeouts": KEY},
        {"limiter": KEY},
        {"max_retries": KEY},
        {"max_retry_wait": KEY},
        {"observer": KEY},
        {"proxy": KEY + "@"},
        {"proxy": f"http://me:{KEY}\n@proxy.test"},
        {"api_key": KEY + "\n"},
        {"api_key": f"Bearer {KEY}"},
        {"api_key": [KEY]},
        {"api_key": KEY.encode()},
    ],
)
def test_an_argument_that_is_refused_is_not_shown(options: dict[str, Any]) -> None:
    for kind in (AsyncClient, Client):
        with pytest.raises((ValueError, TypeError)) as caught:
            kind(**{"base_url": "http://api.test", **options})
        assert_unseen(KEY, all_of(caught.value))


@pytest.mark.parametrize(
    "options",
    [
        {"extra_headers": {f"Authorization: Bearer {KEY}": ""}},
        {"extra_headers": {"Authorization": f"Bearer {KEY}\n"}},
        {"model": KEY + "\n"},
        {"timeouts": KEY},
        {"max_retries": KEY},
        {"messages": KEY},
    ],
)
def test_an_argument_of_a_call_that_is_refused_is_not_shown(options: dict[str, Any]) -> None:
    with Client("http://api.test") as client:
        with pytest.raises((ValueError, TypeError)) as caught:
            client.chat.completions.stream(**{"model": "m", "messages": MESSAGES, **options})
        assert_unseen(KEY, all_of(caught.value))


@pytest.mark.parametrize("key", [KEY + "\n", KEY.encode(), [KEY]])
def test_a_function_that_gives_no_proper_key(key: Any) -> None:
    async def main() -> None:
        network = MemoryNetwork(reply(Send(b"")))
        async with client_on(network, api_key=lambda: key) as client:
            with pytest.raises((ValueError, TypeError)) as caught:
                await client.complete(REQUEST)
        assert_unseen(KEY, all_of(caught.value))
        assert network.requests == []

    name, how = virtual("asyncio")
    anyio.run(main, backend=name, backend_options=how)


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETA_API_KEY", f"{KEY}\n{KEY}")
    with pytest.raises(ValueError, match="PARETA_API_KEY") as caught:
        AsyncClient.from_env("pareta")
    assert_unseen(KEY, all_of(caught.value))
    monkeypatch.setenv("PARETA_API_KEY", KEY)
    monkeypatch.setenv("PARETA_BASE_URL", KEY)
    with pytest.raises(ValueError, match="PARETA_BASE_URL") as caught:
        AsyncClient.from_env("pareta")
    assert_unseen(KEY, all_of(caught.value))
    with pytest.raises(ValueError, match="provider") as caught:
        AsyncClient.from_env(KEY)
    assert_unseen(KEY, all_of(caught.value))
