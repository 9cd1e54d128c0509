"""No local variable of the library shows a secret, whatever an error was raised through.

Tools that report crashes show the variables of each frame. Every public way in is tried with each
kind of argument error, and every stage of a call with each kind of failure.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import penstock
from penstock import AsyncClient, Client, PenstockError, Timeouts
from penstock._wire.credentials import forget_variables
from penstock.testing.clock import virtual
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import error_reply, json_reply, sse_reply, tokens
from penstock.testing.script import End, Pause, Reply, Reset, Send, Stall, reply
from tests.support.chat import REQUEST, client_on

from .seen import all_of, chain, frames, variables_of

KEY = "sk-Secret/0123456789abcdef"
PASSWORD = "pass-Word-0123456789"
HELLO = sse_reply(tokens("Hel", "lo"))


def assert_unseen(error: BaseException, *secrets: str) -> None:
    shown = all_of(error) + variables_of(error)
    for secret in secrets:
        at = shown.lower().find(secret[:8].lower())
        assert at < 0, shown[max(0, at - 300) : at + 100]


def run(main: Callable[[], Awaitable[Any]], backend: str = "asyncio") -> Any:
    name, how = virtual(backend)
    return anyio.run(main, backend=name, backend_options=how)


# --- making a client ---

REFUSED: dict[str, dict[str, Any]] = {
    "line break": {"api_key": KEY + "\n"},
    "blank": {"api_key": f"Bearer {KEY}"},
    "bytes": {"api_key": KEY.encode()},
    "list": {"api_key": [KEY]},
    "header value": {"headers": {"x-api-key": KEY + "\n"}},
    "header name": {"headers": {f"Authorization: Bearer {KEY}": "x"}},
    "headers": {"headers": KEY},
    "beside a bad header": {"headers": {"x-api-key": KEY, "a b": "c"}},
    "url": {"base_url": KEY},
    "user of the url": {"base_url": f"https://me:{KEY.replace('/', '-')}@api.test"},
    "port of the url": {"base_url": f"https://api.test:{KEY.replace('/', '-')}"},
    "fragment": {"base_url": f"https://api.test/?key={KEY}#x"},
    "query": {"default_query": {"key": KEY, "other": object()}},
    "proxy": {"proxy": f"http://me:{KEY}\n@proxy.test"},
    "proxy's port": {"proxy": f"http://me:{PASSWORD}@proxy.test:x"},
    "proxy's scheme": {"proxy": f"ftp://me:{PASSWORD}@proxy.test"},
    "provider": {"provider": KEY},
    "observer": {"observer": object()},
    "retries": {"max_retries": -1},
    "wait": {"max_retry_wait": -1},
}
PROPER: dict[str, Any] = {
    "base_url": "http://api.test/v1",
    "api_key": KEY,
    "headers": {"x-api-key": KEY},
    "proxy": f"http://me:{PASSWORD}@proxy.test",
    "default_query": {"key": KEY},
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("make", [AsyncClient, AsyncClient.from_env, Client, Client.from_env])
def test_arguments_of_a_client(make: Callable[..., Any], kind: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        make(**{**PROPER, **REFUSED[kind]})
    assert_unseen(caught.value, KEY, PASSWORD)


@pytest.mark.parametrize("kind", REFUSED)
def test_arguments_of_a_config(kind: str) -> None:
    fields = {name: value for name, value in REFUSED[kind].items() if name != "observer"}
    config = penstock.ClientConfig(**{**PROPER, **fields})
    for open_it in (config.open, config.open_blocking):
        with pytest.raises((ValueError, TypeError)) as caught:
            open_it(observer=None if fields else object())
        assert_unseen(caught.value, KEY, PASSWORD)


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "OPENAI_BASE_URL"])
def test_the_environment(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv(variable, f"{KEY}\n{KEY}")
    for make in (AsyncClient, AsyncClient.from_env, Client, Client.from_env):
        with pytest.raises(ValueError, match=variable) as caught:
            make()
        assert_unseen(caught.value, KEY)


# --- arguments of a call, on a client with secrets of its own ---

CALLS: dict[str, Callable[[AsyncClient, dict[str, Any]], Any]] = {
    "complete": lambda client, options: client.complete({**REQUEST, **options}),
    "create": lambda client, options: client.chat.completions.create(**{**REQUEST, **options}),
    "stream": lambda client, options: client.chat.completions.stream(**{**REQUEST, **options}),
    "parse": lambda client, options: client.chat.completions.parse(
        **{**REQUEST, "response_format": int, **options}
    ),
    "request": lambda client, options: client.request("POST", "/x", **options),
    "models": lambda client, options: client.models.list(**options),
    "events": lambda client, options: client.events("/x", **options),
    "bytes": lambda client, options: client.stream("POST", "/x", **options),
    "a bad path": lambda client, options: client.request("GET", "/a b", **options),
    "a bad method": lambda client, options: client.request("G T", "/x", **options),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "retries": {"max_retries": -1},
    "timeouts": {"timeouts": 5},
    "headers": {"extra_headers": {"a b": "c"}},
    "header": {"extra_headers": {"x": "a\n"}},
    "no mapping": {"extra_headers": "x"},
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("call", CALLS)
def test_arguments_of_a_call(call: str, option: str) -> None:
    async def main() -> None:
        network = MemoryNetwork(HELLO)
        async with AsyncClient(**PROPER, network=network) as client:
            with pytest.raises((ValueError, TypeError)) as caught:
                await CALLS[call](client, OPTIONS[option])
            assert_unseen(caught.value, KEY, PASSWORD)
        assert network.connects == []

    run(main)


# --- a call that fails at each stage ---

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
FAILURES: dict[str, Callable[[str], Reply]] = {
    "status": lambda echo: error_reply(401, echo, headers={"x-echo": echo}),
    "a head without end": lambda echo: reply(
        f"HTTP/1.1 200 OK\r\nx: {echo * 4000}".encode(), End()
    ),
    "a head of many lines": lambda echo: reply(
        b"HTTP/1.1 200 OK\r\n" + f"x: {echo}\r\n".encode() * 400 + b"\r\n"
    ),
    "no head": lambda echo: reply(f"{echo}\r\n\r\n".encode(), End()),
    "half a head": lambda echo: reply(f"HTTP/1.1 200 {echo}".encode(), Reset()),
    "a silent head": lambda echo: reply(f"HTTP/1.1 200 {echo}".encode(), Stall()),
    "an event": lambda echo: sse_reply([{"error": {"message": echo}}]),
    "an event after others": lambda echo: sse_reply([*tokens("a"), {"error": {"message": echo}}]),
    "half an event": lambda echo: sse_reply([Send(f"data: {echo}".encode()), Reset()], done=False),
    "silence": lambda _: sse_reply([*tokens("a", finish=None), Stall()]),
    "a slow answer": lambda _: sse_reply([*tokens("a", finish=None), Pause(100)]),
    "a chunk": lambda echo: reply(CHUNKED + f"{echo}\r\n".encode(), End()),
    "a coding": lambda echo: reply(f"HTTP/1.1 200 OK\r\ncontent-encoding: {echo}\r\n\r\n".encode()),
    "not json": lambda echo: json_reply(f"{{{echo}"),
    "nothing": lambda _: reply(Reset()),
}
WAYS: dict[str, Callable[[AsyncClient], Awaitable[Any]]] = {
    "complete": lambda client: client.complete(REQUEST),
    "create": lambda client: client.chat.completions.create(**REQUEST),
    "models": lambda client: client.models.list(),
}
TIMEOUTS = Timeouts(read=5, total=60)


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_call_that_fails(failure: str, backend: str) -> None:
    async def main() -> None:
        for way in WAYS.values():
            script = FAILURES[failure](KEY)
            async with client_on(
                MemoryNetwork(script),
                api_key=KEY,
                headers={"x-api-key": KEY},
                default_query={"key": KEY},
                max_retries=1,
                timeouts=TIMEOUTS,
            ) as client:
                try:
                    await way(client)
                except PenstockError as error:
                    assert_unseen(error, KEY)

    run(main, backend)


@pytest.mark.parametrize("retries", [0, 1])
def test_keys_that_rotate(retries: int) -> None:
    keys = [f"sk-Key-{number}-{'x' * 16}" for number in range(9)]
    ahead = iter(keys)

    def script(request: Any) -> Reply:
        # Every key of the calls before, too.
        return error_reply(503, " ".join(keys), headers={"retry-after": "0"})

    async def main() -> None:
        network = MemoryNetwork(script)
        async with client_on(
            network, api_key=lambda: next(ahead), max_retries=retries, timeouts=TIMEOUTS
        ) as client:
            used = 0
            for _ in range(3):
                with pytest.raises(penstock.EndpointNotReadyError) as caught:
                    await client.complete(REQUEST)
                used += 1 + retries
                shown = all_of(caught.value) + variables_of(caught.value)
                assert not [key for key in keys[:used] if key in shown]

    run(main)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    "script",
    [
        reply(b"\x05\x02", b"\x01\x01", End()),  # the password is wrong
        reply(b"\x05\x02", Stall()),
        reply(b"\x05\x02", b"\x01\x00", b"\x05\x05\x00\x01\0\0\0\0\0\0", End()),
        reply(b"\x05\x02", b"\x01\x00", End()),
        reply(b"\x05\x02", b"junk", End()),
        reply(b"\x05\x05", End()),
        reply(b"junk", End()),
        reply(Reset()),
    ],
)
def test_the_password_of_a_socks_proxy(script: Reply, backend: str) -> None:
    async def main() -> None:
        network = MemoryNetwork(script)
        async with client_on(
            network,
            proxy=f"socks5://me:{PASSWORD}@proxy.test",
            max_retries=0,
            timeouts=Timeouts(connect=3),
        ) as client:
            with pytest.raises(PenstockError) as caught:
                await client.complete(REQUEST)
            assert_unseen(caught.value, PASSWORD)

    run(main, backend)


def test_a_socks_password_that_is_too_long() -> None:
    async def main() -> None:
        proxy = f"socks5://me:{PASSWORD * 20}@proxy.test"
        async with client_on(MemoryNetwork(HELLO), proxy=proxy) as client:
            with pytest.raises(PenstockError, match="255 bytes") as caught:
                await client.complete(REQUEST)
            assert_unseen(caught.value, PASSWORD)

    run(main)


@pytest.mark.parametrize("origin", ["http", "https"])
def test_the_password_of_a_proxy_that_sends_it_back(origin: str) -> None:
    pair = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    answers = [
        f"HTTP/1.1 407 {echo}\r\nx: {echo}\r\ncontent-length: 0\r\n\r\n"
        for echo in (PASSWORD, pair)
    ]
    answers += [f"HTTP/1.1 200 OK\r\nx: {pair * 4000}", f"{PASSWORD} {pair}\r\n\r\n"]

    async def main() -> None:
        for answer in answers:
            network = MemoryNetwork(reply(answer.encode(), End()))
            proxy = f"http://me:{PASSWORD}@proxy.test"
            async with client_on(network, f"{origin}://api.test/v1", proxy=proxy) as client:
                with pytest.raises(PenstockError) as caught:
                    await client.complete(REQUEST)
                assert_unseen(caught.value, PASSWORD, pair)

    run(main)


# --- what belongs to the caller ---


def test_the_callers_own_frames_are_left_alone() -> None:
    mine = "a variable of the caller's"

    def fails() -> None:
        local = mine
        raise LookupError(local)

    async def fails_in_a_handler(client: AsyncClient) -> None:
        try:
            fails()
        except LookupError:
            await client.complete(REQUEST)

    async def main() -> None:
        async with client_on(MemoryNetwork(error_reply(400))) as client:
            with pytest.raises(penstock.BadRequestError) as caught:
                await fails_in_a_handler(client)
        before = next(link for link in chain(caught.value) if isinstance(link, LookupError))
        assert [frame.f_locals.get("local") for frame in frames(before)][-1] == mine

    run(main)


def test_suspended_coroutines_of_an_earlier_error_go_on() -> None:
    # The frame of the task that caught it is in the traceback, and not done.
    async def main() -> None:
        failures: list[BaseException] = []
        finished: list[str] = []

        async def worker(client: AsyncClient) -> None:
            try:
                await client.complete(REQUEST)
            except PenstockError as error:
                failures.append(error)
                await anyio.sleep(5)
                finished.append("slept")

        async with (
            client_on(MemoryNetwork(error_reply(400))) as client,
            anyio.create_task_group() as group,
        ):
            group.start_soon(worker, client)
            await anyio.sleep(1)
            try:
                raise failures[0]
            except PenstockError:
                with pytest.raises(PenstockError):
                    await client.complete(REQUEST)
        assert finished == ["slept"]

    run(main)


def test_an_error_without_a_traceback() -> None:
    error = ValueError("x")
    forget_variables(error)
    assert error.__traceback__ is None
    assert sys.exception() is None


def test_the_proof_sees_what_is_not_cleared() -> None:
    async def main() -> None:
        async with client_on(MemoryNetwork(error_reply(400))) as client:
            stream = client.chat.completions.stream(**REQUEST)
            with pytest.raises(PenstockError) as caught:
                await anext(stream)
        assert "__anext__: self = <CompletionStream" in variables_of(caught.value)

    run(main)


# --- headers of a call ---

SECRET_HEADERS = {"extra_headers": {"x-api-key": KEY}}
BLOCKING: dict[str, Any] = {
    name: call
    for name, call in CALLS.items()
    if name in ("complete", "create", "stream", "parse", "request", "models", "a bad path")
}


@pytest.mark.parametrize("call", CALLS)
def test_headers_of_a_call_that_is_refused(call: str) -> None:
    async def main() -> None:
        async with client_on(MemoryNetwork(HELLO)) as client:
            with pytest.raises((ValueError, TypeError)) as caught:
                await CALLS[call](client, {**SECRET_HEADERS, "max_retries": -1})
            assert_unseen(caught.value, KEY)

    run(main)
    with Client("http://api.test", network=MemoryNetwork(HELLO)) as client:
        if call in BLOCKING:
            with pytest.raises((ValueError, TypeError)) as caught:
                BLOCKING[call](client, {**SECRET_HEADERS, "max_retries": -1})
            assert_unseen(caught.value, KEY)


@pytest.mark.parametrize("failure", ["status", "an event", "no head", "nothing"])
@pytest.mark.parametrize("call", ["complete", "create", "parse", "request", "models"])
def test_headers_of_a_call_that_fails(call: str, failure: str) -> None:
    script = FAILURES[failure](KEY)
    options = {**SECRET_HEADERS, "max_retries": 0}

    async def main() -> None:
        async with client_on(MemoryNetwork(script), timeouts=TIMEOUTS) as client:
            try:
                await CALLS[call](client, options)
            except PenstockError as error:
                assert_unseen(error, KEY)

    run(main)
    with Client("http://api.test", network=MemoryNetwork(script), timeouts=TIMEOUTS) as client:
        try:
            BLOCKING[call](client, options)
        except PenstockError as error:
            assert_unseen(error, KEY)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("script", [reply(Reset()), reply(Stall()), error_reply(413)])
@pytest.mark.parametrize("reads_on", [False, True])
def test_a_large_request_that_is_answered_early(
    script: Reply, reads_on: bool, backend: str
) -> None:
    large = {"model": "m", "messages": [{"role": "user", "content": "x" * 1_000_000}]}

    async def main() -> BaseException:
        network = MemoryNetwork(script, early=0, reads_on=reads_on)
        timeouts = Timeouts(read=3)
        async with client_on(network, api_key=KEY, max_retries=0, timeouts=timeouts) as client:
            with pytest.raises(PenstockError) as caught:
                await client.complete(large)
            return caught.value

    assert_unseen(run(main, backend), KEY)
