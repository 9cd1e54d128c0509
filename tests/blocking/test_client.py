"""`Client`: the shape of AsyncClient, for threads that wait."""

from __future__ import annotations

import gc
import inspect
import logging
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest

import penstock
from penstock import (
    AsyncClient,
    Client,
    Limiter,
    StreamClosedError,
    StreamState,
    Timeouts,
    blocking,
)
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import (
    completion,
    error_reply,
    json_reply,
    sse_event,
    sse_reply,
    tokens,
)
from penstock.testing.script import RecordedRequest, Repeat, Reply, Reset
from penstock.testing.server import becomes_true, closed_port, serve_in_thread
from tests.support.blocking import (
    HELLO,
    SILENT,
    STALLED,
    answer,
    client_of,
    in_thread,
    interrupted_when,
    run_program,
    saying,
    slowly,
    start_program,
    stream_of,
)
from tests.support.chat import KEY, REQUEST, Watcher
from tests.support.sweeps import EVERYTHING

from .conftest import own_threads

# --- the shape ---


def parameters(fn: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    return [
        (each.name, each.kind, each.default) for each in inspect.signature(fn).parameters.values()
    ]


@pytest.mark.parametrize("name", ["__init__", "from_env", "complete", "request"])
def test_the_client_takes_the_same_arguments(name: str) -> None:
    assert parameters(getattr(Client, name)) == parameters(getattr(AsyncClient, name))


def test_the_resources_are_the_same() -> None:
    blocking_client, client = Client("http://x"), AsyncClient("http://x")
    for path in ("chat.completions", "models"):
        ours: Any = blocking_client
        theirs: Any = client
        for name in path.split("."):
            ours, theirs = getattr(ours, name), getattr(theirs, name)
        names = [name for name in dir(theirs) if not name.startswith("_")]
        assert [name for name in dir(ours) if not name.startswith("_")] == names
    public = [name for name in vars(AsyncClient) if not name.startswith("_")]
    for name in ("aclose", *(name for name in public if name != "endpoint")):
        assert hasattr(Client, name.replace("aclose", "close"))
    for name in (n for n in vars(penstock.CompletionStream) if not n.startswith("_")):
        if name not in ("read_batch", "first_token", "receive_nowait", "fill"):
            assert hasattr(blocking.Stream, name.replace("aclose", "close"))


@pytest.mark.parametrize("name", ["fan_out", "fan_out_chunks", "race"])
def test_the_fan_outs_take_the_same_arguments(name: str) -> None:
    from penstock._many import chunks, fan_out, race

    twin: dict[str, Any] = {
        "fan_out": fan_out.fan_out,
        "fan_out_chunks": chunks.fan_out_chunks,
        "race": race.race,
    }
    assert parameters(getattr(blocking, name)) == parameters(twin[name])


def test_it_is_exported_lazily() -> None:
    code, output, _ = run_program(
        "print(penstock.Client is Client, penstock.blocking.Stream.__name__)", "-"
    )
    assert (code, output) == (0, "True Stream\n")
    assert "Client" in vars(penstock)["__all__"]
    assert "blocking" in vars(penstock)["__all__"]
    assert not hasattr(penstock, "Stream")


def test_making_a_client_does_nothing_yet() -> None:
    client = Client("http://127.0.0.1:1/v1", api_key="k")
    assert own_threads() == []
    assert repr(client) == "<Client openai http://127.0.0.1:1/v1>"
    assert client.provider is penstock.providers.OPENAI
    client.close()
    client.close()
    assert own_threads() == []


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"base_url": "ftp://x"}, ValueError),
        ({"timeouts": 3}, TypeError),
        ({"limiter": 3}, TypeError),
        ({"max_retries": -1}, ValueError),
        ({"api_key": "has a\nbreak"}, ValueError),
    ],
)
def test_bad_arguments_are_errors_at_once(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Client(**options)
    assert own_threads() == []


# --- calls ---


def test_every_method() -> None:
    def script(request: RecordedRequest) -> Reply:
        if request.target.endswith("/models"):
            return json_reply({"object": "list", "data": [{"id": "m"}, {"id": "n"}]})
        if request.target.endswith("/other?a=1"):
            return json_reply({"method": request.method, "got": request.json}, 202)
        return answer(request)

    with serve_in_thread(script) as server, client_of(server) as client:
        assert client.chat.completions.create(**saying("one")).choices[0].message.content == "one"
        assert client.complete(saying("two")).choices[0].message.content == "two"
        assert [model.id for model in client.models.list()] == ["m", "n"]
        response = client.request("PATCH", "/other?a=1", json={"x": 1})
        assert (response.status_code, response.json()) == (
            202,
            {"method": "PATCH", "got": {"x": 1}},
        )
        assert len(server.connections) == 1
        assert server.requests[0].headers["authorization"] == "Bearer k"
    assert becomes_true(lambda: server.open_connections == 0)


def test_the_options_of_a_call() -> None:
    calls: list[Callable[[Client, dict[str, Any]], object]] = [
        lambda client, options: client.chat.completions.create(**REQUEST, **options),
        lambda client, options: stream_of(client, **options).collect(),
        lambda client, options: client.complete(REQUEST, **options),
        lambda client, options: client.models.list(**options),
        lambda client, options: client.request("GET", "/x", **options),
        lambda client, options: client.chat.completions.parse(
            **REQUEST, response_format=list[int], **options
        ),
    ]
    busy = error_reply(429, headers={"retry-after-ms": "1"})
    with serve_in_thread(busy) as server, client_of(server) as client:
        for count, call in enumerate(calls):
            with pytest.raises(penstock.RateLimitError):
                call(client, {"max_retries": 1, "extra_headers": {"x-number": str(count)}})
            assert [each.headers["x-number"] for each in server.requests[-2:]] == [str(count)] * 2
        assert len(server.requests) == 2 * len(calls)
    with serve_in_thread(SILENT) as server, client_of(server) as client:
        for call in calls:
            with pytest.raises(penstock.ReadTimeout):
                call(client, {"max_retries": 0, "timeouts": Timeouts(read=0.01)})


def test_retries_and_their_end() -> None:
    fails = error_reply(503, headers={"retry-after-ms": "1"})
    with (
        serve_in_thread([fails, Reply((Reset(),)), json_reply(completion("ok"))]) as server,
        client_of(server) as client,
    ):
        assert client.chat.completions.create(**REQUEST).choices[0].message.content == "ok"
        assert len(server.requests) == 3
    with serve_in_thread(fails) as server, client_of(server) as client:
        with pytest.raises(penstock.EndpointNotReadyError):
            client.complete(REQUEST)
        assert len(server.requests) == 3


def test_nobody_there() -> None:
    with (
        Client(f"http://127.0.0.1:{closed_port()}/v1", max_retries=0) as client,
        pytest.raises(penstock.APIConnectionError),
    ):
        client.complete(REQUEST)


def test_the_traceback_of_a_failed_connection_is_short() -> None:
    with (
        Client(f"http://127.0.0.1:{closed_port()}/v1", max_retries=0) as client,
        pytest.raises(penstock.APIConnectionError) as caught,
    ):
        client.complete(REQUEST)
    text = "".join(traceback.format_exception(caught.value))
    assert len(text.splitlines()) < 40
    assert "asyncio" not in text


def test_answers_as_values() -> None:
    class River(msgspec.Struct):
        name: str
        km: int

    def script(request: RecordedRequest) -> Reply:
        text = '{"name": "Elbe", "km": 1094}'
        if request.json.get("stream"):
            return sse_reply(tokens(*text))
        return json_reply(completion(text))

    elbe = River("Elbe", 1094)
    with serve_in_thread(script) as server, client_of(server) as client:
        parsed = client.chat.completions.parse(**REQUEST, response_format=River)
        assert parsed.choices[0].message.parsed == elbe
        with client.chat.completions.stream(**REQUEST, response_format=River) as stream:
            assert "".join(stream.text) == '{"name": "Elbe", "km": 1094}'
            assert stream.collect().choices[0].message.parsed == elbe
        created: Any = client.chat.completions.create(**REQUEST, response_format=River)
        assert created.choices[0].message.parsed == elbe
        with pytest.raises(penstock.StructuredOutputError) as caught:
            client.chat.completions.parse(**REQUEST, response_format=list[int])
        assert caught.value.completion is not None
        with pytest.raises(TypeError, match="type"):
            client.chat.completions.parse(**REQUEST, response_format={"type": "json_object"})


def test_the_key_of_a_function_that_blocks() -> None:
    waiting, go_on = threading.Event(), threading.Event()
    keys = iter(["first", "second", "third"])
    names: list[str] = []

    def vault() -> str:
        names.append(threading.current_thread().name)
        if len(names) == 1:
            waiting.set()
            go_on.wait(10)
        return next(keys)

    async def async_vault() -> str:
        names.append(threading.current_thread().name)
        return "async"

    with serve_in_thread(answer) as server, client_of(server, api_key=vault) as client:
        with in_thread(lambda: client.complete(saying("slow"))) as outcome:
            assert waiting.wait(5)
            # The loop goes on for others meanwhile.
            with client_of(server) as other:
                assert other.complete(saying("fast")).choices[0].message.content == "fast"
            go_on.set()
        assert outcome[0].choices[0].message.content == "slow"
        client.complete(saying("b"))
        assert [each.headers["authorization"] for each in server.requests] == [
            "Bearer k",
            "Bearer first",
            "Bearer second",
        ]
        assert names == ["penstock worker"] * 2
        with client_of(server, api_key=async_vault) as other:
            other.complete(saying("c"))
        assert names[-1] == "penstock"
        assert server.requests[-1].headers["authorization"] == "Bearer async"


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_in_thread(answer) as server:
        monkeypatch.setenv("PARETA_API_KEY", "from-the-environment")
        monkeypatch.setenv("PARETA_BASE_URL", server.base_url)
        with Client.from_env("pareta") as client:
            client.complete(saying("x"))
        with Client.from_env("pareta", api_key=lambda: "asked") as client:
            client.complete(saying("x"))
        assert [each.headers["authorization"] for each in server.requests] == [
            "Bearer from-the-environment",
            "Bearer asked",
        ]
        monkeypatch.delenv("PARETA_API_KEY")
        with pytest.raises(ValueError, match="PARETA_API_KEY"):
            Client.from_env("pareta")


def test_an_observer_and_the_log(caplog: pytest.LogCaptureFixture) -> None:
    watcher = Watcher()
    caplog.set_level(logging.DEBUG, "penstock")
    script = [error_reply(500, headers={"retry-after-ms": "1"}), HELLO, STALLED]
    with serve_in_thread(script) as server, client_of(server, observer=watcher) as client:
        client.complete(REQUEST)
        with stream_of(client) as stream:
            next(stream)
        with (
            stream_of(client) as stream,
            interrupted_when(lambda: stream.statistics().events == 3),
            pytest.raises(KeyboardInterrupt),
        ):
            list(stream)
        assert watcher.outcomes() == ["completed", "abandoned", "cancelled"]
    assert "KEY" not in caplog.text


def test_a_network_in_place_of_sockets() -> None:
    with Client("http://api.test/v1", api_key=KEY, network=MemoryNetwork(HELLO)) as client:
        assert client.complete(REQUEST).choices[0].message.content == "Hello!"


# --- threads ---


def test_hundreds_of_requests_from_sixteen_threads() -> None:
    with serve_in_thread(answer) as server, client_of(server) as client:

        def work(number: int) -> None:
            for count in range(20):
                text = f"{number}/{count}"
                if count % 4 == 0:
                    with client.chat.completions.stream(**saying(text)) as stream:
                        assert "".join(stream.text) == text
                elif count % 4 == 1:
                    got = client.chat.completions.create(**saying(text))
                    assert got.choices[0].message.content == text
                elif count % 4 == 2:
                    with client.chat.completions.stream(**saying(text)) as stream:
                        next(stream)
                else:
                    assert client.complete(saying(text)).choices[0].message.content == text

        with ThreadPoolExecutor(16) as pool:
            for job in [pool.submit(work, number) for number in range(16)]:
                job.result(30)
        assert len(server.requests) == 320
    assert becomes_true(lambda: server.open_connections == 0)


def test_clients_of_many_threads_come_and_go() -> None:
    with serve_in_thread(answer) as server:

        def work(number: int) -> None:
            for count in range(5):
                with client_of(server) as client:
                    text = f"{number}/{count}"
                    assert client.complete(saying(text)).choices[0].message.content == text

        with ThreadPoolExecutor(8) as pool:
            for job in [pool.submit(work, number) for number in range(8)]:
                job.result(30)
        assert len(server.requests) == 40
    assert becomes_true(lambda: server.open_connections == 0)


def test_one_limiter_for_clients_and_threads() -> None:
    most: list[int] = []
    limiter = Limiter(3)

    def script(request: RecordedRequest) -> Reply:
        most.append(limiter.statistics().in_flight)
        return slowly(request)

    with serve_in_thread(script) as server:
        clients = [client_of(server, limiter=limiter) for _ in range(2)]

        def work(number: int) -> str | None:
            client = clients[number % 2]
            if number % 3:
                return client.complete(saying(number)).choices[0].message.content
            with client.chat.completions.stream(**saying(number)) as stream:
                return "".join(stream.text)

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(work, range(24))) == [str(number) for number in range(24)]
        for client in clients:
            client.close()
        assert len(most) == 24
        assert max(most) == 3
        assert limiter.statistics().in_flight == 0
        # It outlives the loop it was used on.
        with client_of(server, limiter=limiter) as client:
            client.complete(saying("again"))
        assert limiter.statistics().granted == 25


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_from_worker_threads_of_an_event_loop(backend: str) -> None:
    with serve_in_thread(answer) as server, client_of(server) as client:
        texts: list[str | None] = []

        def work(number: int) -> None:
            with client.chat.completions.stream(**saying(number)) as stream:
                texts.append("".join(stream.text))
            texts.append(client.complete(saying(number)).choices[0].message.content)

        async def main() -> None:
            async with anyio.create_task_group() as group:
                for number in range(10):
                    group.start_soon(anyio.to_thread.run_sync, work, number)

        anyio.run(main, backend=backend)
        assert sorted(text or "" for text in texts) == sorted(2 * [str(n) for n in range(10)])


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_inside_an_event_loop_everything_works(backend: str) -> None:
    # As in a notebook, whose cells run inside of a loop.
    limiter = Limiter(2)
    with serve_in_thread(answer) as server, client_of(server, limiter=limiter) as client:
        outside = stream_of(client)

        async def main() -> None:
            assert client.complete(REQUEST).text == "Hello!"
            with stream_of(client) as stream:
                assert next(stream).choices
                assert stream.collect().text == "Hello!"
            assert "".join(outside.text) == "Hello!"
            with blocking.fan_out(client.complete, 5 * [REQUEST]) as results:
                assert [result.unwrap().text for result in results] == 5 * ["Hello!"]
            with blocking.fan_out(lambda _: client.complete(REQUEST), range(5)) as results:
                assert [result.unwrap().text for result in results] == 5 * ["Hello!"]
            with blocking.fan_out_chunks(client, [REQUEST], limit=limiter) as events:
                assert len(list(events)) > 1
            with blocking.race(client, [REQUEST, REQUEST]) as winner:
                assert winner.collect().text == "Hello!"
            # What the loop of the caller has to do goes on afterwards.
            await anyio.sleep(0)  # noqa: ASYNC115 - a turn of the loop, whatever it runs

        async def main_that_closes() -> None:
            with client_of(server) as short:
                assert short.complete(REQUEST).text == "Hello!"
            other = client_of(server)
            open_ = stream_of(other)
            open_.__enter__()
            other.close()
            with pytest.raises(StreamClosedError):
                next(open_)

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            anyio.run(main, backend=backend)
            anyio.run(main_that_closes, backend=backend)
            gc.collect()
        assert limiter.statistics().in_flight == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_beside_an_async_client_of_the_same_loop(backend: str) -> None:
    with serve_in_thread(answer) as server, client_of(server) as client:

        async def main() -> list[str | None]:
            async with penstock.AsyncClient(server.base_url, api_key="k") as own:

                async def mixed(number: int) -> str | None:
                    if number % 2:
                        return client.complete(REQUEST).text
                    return (await own.complete(REQUEST)).text

                async with penstock.fan_out(mixed, range(10)) as results:
                    return [result.unwrap() async for result in results]

        assert anyio.run(main, backend=backend) == 10 * ["Hello!"]


def test_where_a_call_would_never_return_it_is_an_error() -> None:
    # Nothing may wait in the loop of the blocking clients for that loop.
    told: list[str] = []

    class Asking:
        def request_started(self, _: object) -> None:
            try:
                other.complete(REQUEST)
            except RuntimeError as error:
                told.append(str(error))

    with (
        serve_in_thread(answer) as server,
        client_of(server) as other,
        client_of(server, observer=Asking()) as client,
    ):
        assert client.complete(REQUEST).text == "Hello!"
        assert other.complete(REQUEST).text == "Hello!"
    assert [text for text in told if "use penstock.AsyncClient there" in text] == told != []


def test_a_key_may_come_from_a_blocking_call() -> None:
    # It is asked for in a worker thread, so that this is no call in the loop's own thread.
    with serve_in_thread(answer) as server, client_of(server) as vault:

        def key() -> str:
            return f"k-{vault.complete(REQUEST).text}"

        with client_of(server, api_key=key) as client:
            assert client.complete(REQUEST).text == "Hello!"
            assert server.requests[-1].headers["authorization"] == "Bearer k-Hello!"


# --- closing ---


def test_closing_the_client_closes_open_streams() -> None:
    with serve_in_thread(STALLED) as server:
        client = client_of(server)
        streams = [stream_of(client) for _ in range(3)]
        for stream in streams:
            stream.__enter__()
            next(stream)
        with in_thread(lambda: list(streams[0])) as outcome:
            assert becomes_true(lambda: streams[0].partial.choices[0].message.content == "ab")
            client.close()
            assert becomes_true(lambda: server.open_connections == 0, seconds=2)
        assert isinstance(outcome[0], StreamClosedError)
        for stream in streams:
            with pytest.raises(StreamClosedError):
                list(stream)
            stream.close()
            assert stream.statistics().attempts == 1
        assert streams[0].partial.choices[0].message.content == "ab"
        assert own_threads() == []
        for call in (lambda: client.complete(REQUEST), stream_of(client).__enter__):
            with pytest.raises(StreamClosedError, match="closed"):
                call()


def test_closing_the_client_ends_calls_of_other_threads() -> None:
    with serve_in_thread(SILENT) as server:
        client = client_of(server)
        with (
            in_thread(lambda: client.complete(REQUEST)) as first,
            in_thread(lambda: client.chat.completions.create(**REQUEST)) as second,
            in_thread(stream_of(client).__enter__) as third,
        ):
            assert becomes_true(lambda: len(server.requests) == 3)
            client.close()
        for outcome in (first, second, third):
            assert isinstance(outcome[0], StreamClosedError)
        assert becomes_true(lambda: server.open_connections == 0)


def test_closing_one_client_leaves_the_others_alone() -> None:
    with (
        serve_in_thread(slowly) as server,
        client_of(server) as kept,
        kept.chat.completions.stream(**saying("abcdef")) as stream,
    ):
        next(stream)
        with client_of(server) as other:
            other.complete(saying("x"))
        assert "".join(stream.text) == "abcdef"


def test_a_finished_stream_is_there_after_its_client() -> None:
    with serve_in_thread(answer) as server:
        with client_of(server) as client:
            stream = client.chat.completions.stream(**saying("abc"))
            assert "".join(stream.text) == "abc"
        assert list(stream) == []
        assert stream.collect().choices[0].message.content == "abc"
        assert stream.partial.choices[0].message.content == "abc"
        assert stream.state is StreamState.COMPLETED
        stream.close()


def test_the_thread_is_there_as_long_as_it_is_needed() -> None:
    before = threading.active_count()
    with serve_in_thread(answer) as server:
        kit = threading.active_count()
        with client_of(server) as first, client_of(server) as second:
            assert threading.active_count() == kit
            first.complete(saying("x"))
            second.complete(saying("x"))
            assert own_threads() == ["penstock"]
            first.close()
            assert own_threads() == ["penstock"]
        assert threading.active_count() == kit
    assert threading.active_count() == before


# --- forgotten ---


def test_a_forgotten_client_warns_and_takes_everything_with_it() -> None:
    with serve_in_thread(answer) as server:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            client_of(server).complete(saying("x"))
            gc.collect()
            assert becomes_true(lambda: server.open_connections == 0)
            assert becomes_true(lambda: not own_threads())
        (warning,) = caught
        assert warning.category is ResourceWarning
        assert "<Client " in str(warning.message)
        assert "use `with`" in str(warning.message)


def test_a_stream_outlives_a_forgotten_client() -> None:
    with serve_in_thread(slowly) as server:
        stream = client_of(server).chat.completions.stream(**saying("abc"))
        gc.collect()
        with stream:
            assert "".join(stream.text) == "abc"


# --- fork ---

FORK = """
client = Client(url, api_key="k")
stream = client.chat.completions.stream(**R, endless=True)
stream.__enter__()
next(stream)
client.complete(R)  # leaves an idle connection
lasting = blocking.fan_out_chunks(client, [{**R, "endless": True}]).__enter__()
next(lasting)
calls = [
    lambda: client.complete(R),
    lambda: next(client.chat.completions.stream(**R)),
    lambda: [next(stream) for _ in range(10_000)],
    lambda: blocking.fan_out_chunks(client, [R]).__enter__(),
    lambda: blocking.fan_out(client.complete, [R]).__enter__(),
    lambda: [next(lasting) for _ in range(10_000)],
]
child = os.fork()
if child == 0:
    code = 1
    try:
        for call in calls:
            try:
                call()
            except RuntimeError as error:
                assert "fork" in str(error), error
        client.close()
        stream.close()
        assert threading.active_count() == 1
        with Client(url, api_key="child") as own:
            assert own.complete(R).choices[0].message.content == "Hello!"
        assert threading.active_count() == 1
        code = 0
    finally:
        HOW
_, status = os.waitpid(child, 0)
for _ in range(50):
    next(stream)
    next(lasting)
assert client.complete(R).choices[0].message.content == "Hello!"
stream.close()
lasting.__exit__(None, None, None)
client.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.parametrize(
    "how",
    [
        "os._exit(code)",
        "sys.exit(code)",
        "del client, stream, lasting, calls, call; gc.collect(); os._exit(code)",
    ],
    ids=["at once", "as usual", "after collecting"],
)
def test_a_forked_process(how: str) -> None:
    first, *_ = tokens("x")
    endless = sse_reply([Repeat(sse_event(first), every=0.002)], done=False)

    def script(request: RecordedRequest) -> Reply:
        return endless if "endless" in request.json else HELLO

    with serve_in_thread(script) as server:
        code, _, errors = run_program(FORK.replace("HOW", how), server.base_url)
        assert code == 0, errors
        assert "Traceback" not in errors
        # The parent has kept its idle connection.
        assert len(server.connections) == 4


# --- Ctrl-C ---

CALLS: dict[str, Callable[[Client], object]] = {
    "create": lambda client: client.chat.completions.create(**REQUEST),
    "complete": lambda client: client.complete(REQUEST),
    "enter": lambda client: stream_of(client).__enter__(),
    "read": lambda client: list(stream_of(client)),
    "collect": lambda client: stream_of(client).collect(),
    "models": lambda client: client.models.list(),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_interrupted_call_closes_its_connection(name: str) -> None:
    script = [SILENT, json_reply(completion("ok"))]
    with serve_in_thread(script) as server, client_of(server) as client:
        with interrupted_when(lambda: server.requests), pytest.raises(KeyboardInterrupt):
            CALLS[name](client)
        assert becomes_true(lambda: server.open_connections == 0, seconds=2)
        assert server.connections[0].ended == "client closed"
        # And nothing else is broken.
        assert client.chat.completions.create(**REQUEST).choices[0].message.content == "ok"


PROGRAMS = {
    "a stream": """
with Client(url, api_key="k") as client:
    for chunk in client.chat.completions.create(**R, stream=True):
        pass
""",
    "a stream in a block": """
with Client(url, api_key="k") as client, client.chat.completions.stream(**R) as stream:
    for text in stream.text:
        pass
""",
    "no with at all": """
client = Client(url, api_key="k")
for chunk in client.chat.completions.create(**R, stream=True):
    pass
""",
    "collect": "Client(url, api_key='k').chat.completions.stream(**R).collect()",
    "create": "Client(url, api_key='k').chat.completions.create(**R)",
    "complete": "Client(url, api_key='k').complete(R)",
    "fan_out": """
with Client(url, api_key="k") as client:
    with blocking.fan_out(client.complete, [R] * 3) as results:
        for result in results:
            pass
""",
    "fan_out of a function": """
with Client(url, api_key="k") as client:
    with blocking.fan_out(lambda request: client.complete(request), [R] * 3) as results:
        for result in results:
            pass
""",
    "fan_out of a function that never returns": """
def fn(request):
    Client(url, api_key="k").request("GET", "/stalled", max_retries=0)
    queue.Queue().get()
with blocking.fan_out(fn, [R] * 3) as results:
    for result in results:
        pass
""",
    "fan_out of a source that waits for ever": """
def source():
    yield R
    queue.Queue().get()
with Client(url, api_key="k") as client:
    with blocking.fan_out(client.complete, source()) as results:
        for result in results:
            pass
""",
    "fan_out_chunks": """
with Client(url, api_key="k") as client:
    with blocking.fan_out_chunks(client, (R for _ in range(3))) as events:
        for event in events:
            pass
""",
    "race": """
with Client(url, api_key="k") as client:
    with blocking.race(client, [{**R, "silent": True}] * 2) as stream:
        pass
""",
    "the winner of a race": """
with Client(url, api_key="k") as client:
    with blocking.race(client, [R]) as stream:
        stream.collect()
""",
}


# What every block does when it is interrupted at any line is shown by test_interrupts.
@pytest.mark.parametrize("name", PROGRAMS if EVERYTHING else list(PROGRAMS)[::3])
def test_ctrl_c_ends_a_program_at_once(name: str) -> None:
    def script(request: RecordedRequest) -> Reply:
        body = request.json if request.body else {}
        return STALLED if body.get("stream") and "silent" not in body else SILENT

    with (
        serve_in_thread(script) as server,
        start_program(PROGRAMS[name], server.base_url) as process,
    ):
        assert becomes_true(lambda: server.requests)
        time.sleep(0.05)  # into the wait, most likely; nothing depends on it
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        took = time.monotonic() - begun
        assert process.returncode == -signal.SIGINT, errors
        assert errors.rstrip().endswith("KeyboardInterrupt"), errors
        assert took < 5
        assert becomes_true(lambda: server.open_connections == 0)
        assert {each.ended for each in server.connections} <= {"client closed"}


# --- the interpreter's exit ---

EXITS = {
    "a client": "client.complete({**R, 'fast': True})",
    "an open stream": "stream = client.chat.completions.stream(**R).__enter__(); next(stream)",
    "a stream read in a thread": """
stream = client.chat.completions.stream(**R).__enter__()
threading.Thread(target=lambda: list(stream), daemon=True).start()
""",
    "a fan-out nobody left": """
def fn(item):
    next(stream)
stream = client.chat.completions.stream(**R)
def everything():
    with blocking.fan_out(fn, iter([1, 2])) as results:
        yield from results
results = everything()
next(results)
""",
    "chunks nobody read on": """
events = blocking.fan_out_chunks(client, iter([R, R])).__enter__()
next(events)
""",
    "a loop through everything": "client.me = client; client.complete({**R, 'fast': True})",
}
# What a handler of `atexit` may do, and what it prints.
FAST = "{**R, 'fast': True}"
HANDLERS = {
    "a call": (f"print(client.complete({FAST}).choices[0].message.content)", "Hello!"),
    "a client of its own, closed": (
        f"with Client(url, api_key='k') as own: print(own.complete({FAST}).model)",
        "test-model",
    ),
    "a server by its name": (
        f"print(Client(by_name, api_key='k').complete({FAST}).model)",
        "test-model",
    ),
    "a stream": (
        f"with client.chat.completions.stream(**{FAST}) as stream: print(*stream.text)",
        "Hel lo !",
    ),
    "a stream left open": (
        "stream = client.chat.completions.stream(**R).__enter__(); print(next(stream.text))",
        "a",
    ),
    "a stream forgotten": (
        "print(next(client.chat.completions.stream(**R).__enter__().text)); gc.collect()",
        "a",
    ),
    "a fan-out": (
        f"with blocking.fan_out(client.complete, [{FAST}] * 3) as each: print(len(list(each)))",
        "3",
    ),
    "a race": (
        f"with blocking.race(client, [{FAST}] * 2) as stream: print(stream.collect().model)",
        "test-model",
    ),
    "a block left open": (
        "events = blocking.fan_out_chunks(client, [R, R]).__enter__(); next(events); print('ok')",
        "ok",
    ),
    "an error": (
        "try: client.complete({**R, 'model': ''})\n    except ValueError: print('refused')",
        "refused",
    ),
}


@pytest.mark.parametrize("name", EXITS)
def test_the_interpreter_ends_without_close(name: str) -> None:
    def script(request: RecordedRequest) -> Reply:
        return HELLO if "fast" in request.json else STALLED

    with serve_in_thread(script) as server:
        begun = time.monotonic()
        code, output, errors = run_program(
            f"client = Client(url, api_key='k')\n{EXITS[name]}\nprint('end')", server.base_url
        )
        took = time.monotonic() - begun
        assert (code, output.split()[0]) == (0, "end"), errors
        assert "Traceback" not in errors.replace("ResourceWarning", ""), errors
        assert took < 10
        assert becomes_true(lambda: server.open_connections == 0)


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize(
    ("name", "used"),
    [*((name, False) for name in HANDLERS), ("a call", True), ("a server by its name", True)],
)
def test_a_handler_at_exit_may_call(name: str, used: bool) -> None:
    """Also when it makes the first call, for which Python 3.12 starts no thread any more."""

    def script(request: RecordedRequest) -> Reply:
        return HELLO if "fast" in request.json else STALLED

    code, expected = HANDLERS[name]
    program = f"""
import atexit
by_name = url.replace('127.0.0.1', 'localhost')
client = Client(url, api_key='k')
if {used}: client.complete({FAST})
@atexit.register
def handler():
    {code}
"""
    with serve_in_thread(script) as server:
        begun = time.monotonic()
        code_, output, errors = run_program(program, server.base_url)
        assert (code_, output.strip()) == (0, expected), errors
        assert "Traceback" not in errors.replace("ResourceWarning", ""), errors
        assert time.monotonic() - begun < 10
        assert becomes_true(lambda: server.open_connections == 0)


def test_a_handler_that_comes_after_the_end_of_the_loop() -> None:
    program = f"""
import atexit
from penstock.blocking._loop import shared_loop
with Client(url, api_key='k') as client: client.complete({FAST})
@atexit.register
def handler():
    with Client(url, api_key='k') as client: print(client.complete({FAST}).model)
held = Client(url, api_key='k')
held.complete({FAST})
atexit.register(shared_loop._at_exit)
"""
    with serve_in_thread(HELLO) as server:
        code, output, errors = run_program(program, server.base_url)
        assert (code, output.strip()) == (0, "test-model"), errors
        assert "Traceback" not in errors.replace("ResourceWarning", ""), errors


def test_functions_at_exit_run_or_are_refused_with_the_reason() -> None:
    program = """
import atexit
def function(item):
    return item + 1
@atexit.register
def handler():
    with blocking.fan_out(function, [1]) as results:
        for result in results:
            print(result.value, result.error)
"""
    code, output, errors = run_program(program, "")
    assert code == 0, errors
    assert output.startswith("2 None") or "starts none while the interpreter exits" in output
    assert "Traceback" not in errors.replace("ResourceWarning", ""), errors


def test_what_is_collected_after_the_modules_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the GIL the interpreter clears its modules first."""
    with serve_in_thread(STALLED) as server:
        client = Client(server.base_url)
        stream = client.chat.completions.stream(**REQUEST).__enter__()
        next(stream)
        with monkeypatch.context() as ended:
            for module in ("_client.client", "_call.base_stream", "blocking._loop.facade"):
                ended.setattr(f"penstock.{module}.warnings", None)
            ended.setattr("penstock.blocking._loop.reading.warnings", None)
            ended.setattr("penstock.blocking._loop.shared_loop.os", None)
            finalizer = client._loop._finalizer
            assert finalizer is not None
            _, callback, arguments, _ = finalizer.peek() or pytest.fail("no finalizer")
            for final in (stream.__del__, stream._async.__del__, client._async.__del__):
                final()
            callback(*arguments)
        assert stream.state == "flowing"
        stream.close()
        client.close()
