"""`Completions`: a row's answer, whatever happens, in whatever event loop, thread and process."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import threading
from typing import Any

import anyio
import pytest

import penstock
from penstock import Limiter, Timeouts
from penstock.engines import Completions
from penstock.engines.completions import KEPT
from penstock.testing.clock import Backend
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import REAL_BACKENDS
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import completion, error_reply, json_reply, sse_reply, tokens
from penstock.testing.script import Pause, RecordedRequest, Reply, Reset, reply
from penstock.testing.server import becomes_true, serve, serve_in_thread
from penstock.testing.sweep import open_fds
from tests.support.blocking import run_program

from .support import OK, URL, checked, echo, on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

CUT = reply(OK.data[:-20], Reset())


# --- answers ---


async def test_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    ask, network = on(monkeypatch, OK)
    assert checked(await ask("Hi")) == {
        "text": "Hello",
        "error": None,
        "message": None,
        "status_code": 200,
        "finish_reason": "stop",
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "requests": 1,
        "body": None,
    }
    (request,) = network.requests
    assert request.target == "/v1/chat/completions"
    assert request.json == {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize(
    ("script", "code", "status", "requests"),
    [
        (error_reply(400, "too odd"), "bad_request", 400, 1),
        (error_reply(403), "permission_denied", 403, 1),
        (error_reply(404), "not_found", 404, 1),
        (error_reply(413), "too_large", 413, 1),
        (error_reply(422), "unprocessable", 422, 1),
        (error_reply(418), "status_418", 418, 1),
        (error_reply(500), "server_error", 500, 3),
        (json_reply({"error": {"message": "late"}}), "server_error", 200, 3),
        (reply(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nno!"), "bad_response", 200, 3),
        (CUT, "interrupted", None, 3),
    ],
)
async def test_a_failure(
    monkeypatch: pytest.MonkeyPatch, script: Reply, code: str, status: int | None, requests: int
) -> None:
    ask, network = on(monkeypatch, script, max_retries=2)
    answer = checked(await ask("Hi"))
    assert (answer["error"], answer["status_code"]) == (code, status)
    assert answer["requests"] == requests == len(network.requests)


async def test_it_is_asked_again_until_there_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    ask, _ = on(monkeypatch, [error_reply(500), CUT, OK])
    assert checked(await ask("Hi"))["requests"] == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_raw_has_the_body(monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    whole = sse_reply(tokens("Hel", "lo", usage={"prompt_tokens": 5})) if stream else OK
    ask, network = on(monkeypatch, [whole, error_reply(400, "odd")], raw=True, stream=stream)
    answer = checked(await ask("Hi"))
    assert '"finish_reason":' in (answer["body"] or "").replace(" ", "")
    assert '"odd"' in (checked(await ask("Hi"))["body"] or "")
    assert bool(network.requests[0].json.get("stream")) is stream


async def test_a_cut_answer_is_not_paid_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = sse_reply([*tokens("Half")[:2], Reset()], done=False)
    ask, network = on(monkeypatch, cut, stream=True, on_cut="fail", raw=True)
    answer = checked(await ask("Hi"))
    assert (answer["error"], answer["text"]) == ("interrupted", None)
    assert "Half" in (answer["body"] or "")
    assert len(network.requests) == 1


# --- limits ---


async def test_requests_in_flight_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    network = MemoryNetwork(reply(Pause(1), OK.data))
    ask, _ = on(monkeypatch, network, concurrency=3)
    peak = 0

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, len(network.in_flight))
            await anyio.sleep(0.1)

    async with anyio.create_task_group() as watcher:
        watcher.start_soon(watch)
        start = anyio.current_time()
        async with anyio.create_task_group() as group:
            for _ in range(9):
                group.start_soon(ask, "Hi")
        assert anyio.current_time() - start == pytest.approx(3)
        watcher.cancel_scope.cancel()
    assert peak == 3


async def test_requests_start_at_their_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    ask, _ = on(monkeypatch, OK, per_second=2)
    start = anyio.current_time()
    for _ in range(9):
        await ask("Hi")
    assert anyio.current_time() - start >= 3.5


async def test_a_cancelled_row_leaves_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    ask, network = on(monkeypatch, reply(Pause(5), OK.data), concurrency=1)
    with anyio.move_on_after(1):
        await ask("Hi")
    assert not network.in_flight
    assert checked(await ask("Hi"))["text"] == "Hello"


# --- a refused account ---

QUOTA = error_reply(429, "used up", code="insufficient_quota")
REFUSALS = [
    pytest.param(error_reply(401, "no such key"), penstock.AuthenticationError, "status_401"),
    pytest.param(error_reply(402, "no credits"), penstock.InsufficientCreditsError, "status_402"),
    pytest.param(QUOTA, penstock.RateLimitError, "rate_limit"),
]


@pytest.mark.parametrize(("refusal", "kind", "code"), REFUSALS)
async def test_it_is_raised_once_and_nothing_more_is_sent(
    monkeypatch: pytest.MonkeyPatch, refusal: Reply, kind: type[Exception], code: str
) -> None:
    slow = Reply((Pause(1), *refusal.steps))
    ask, network = on(monkeypatch, slow, concurrency=4)
    raised: list[Exception] = []
    answers: list[Any] = []

    async def row() -> None:
        try:
            answers.append(checked(await ask("Hi")))
        except Exception as error:  # noqa: BLE001
            raised.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(row)
    assert [type(error) for error in raised] == [kind]
    assert {answer["error"] for answer in answers} == {code}
    assert len(network.requests) == 4
    assert checked(await ask("Hi"))["error"] == code
    assert len(network.requests) == 4


@pytest.mark.parametrize(("refusal", "kind", "code"), REFUSALS)
async def test_it_is_the_failure_of_each_row(
    monkeypatch: pytest.MonkeyPatch, refusal: Reply, kind: type[Exception], code: str
) -> None:
    ask, network = on(monkeypatch, [refusal] * 150 + [OK], on_refused="row")
    for number in range(150):
        answer = checked(await ask("Hi"))
        assert (answer["error"], answer["requests"]) == (code, 1), number
    assert checked(await ask("Hi"))["text"] == "Hello"
    assert len(network.requests) == 151


# --- a server that is away ---


async def test_rows_wait_for_a_server_and_fail_when_patience_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    away = True

    def script(request: RecordedRequest) -> Reply:
        return error_reply(503, "starting") if away else OK

    ask, network = on(monkeypatch, script, patience=60.0, concurrency=2)
    answers: list[Any] = []

    async def row() -> None:
        answers.append(checked(await ask("Hi")))

    start = anyio.current_time()
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(row)
    assert anyio.current_time() - start == pytest.approx(60, abs=2)
    assert {(a["error"], a["status_code"]) for a in answers} == {("server_error", 503)}
    assert all("no answer for 60 s" in a["message"] for a in answers)
    # Patience is spent: the next rows fail with their first request.
    before, start = len(network.requests), anyio.current_time()
    for _ in range(3):
        assert checked(await ask("Hi"))["error"] == "server_error"
    assert len(network.requests) == before + 3
    assert anyio.current_time() - start < 30
    # It is back, and goes away again: there is patience again.
    away = False
    assert checked(await ask("Hi"))["text"] == "Hello"
    away = True
    start = anyio.current_time()
    assert checked(await ask("Hi"))["error"] == "server_error"
    assert anyio.current_time() - start == pytest.approx(60, abs=2)


async def test_a_server_that_comes_back_in_time_costs_no_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    back_at = anyio.current_time() + 100

    def script(request: RecordedRequest) -> Reply:
        return OK if anyio.current_time() > back_at else reply(Reset())

    ask, _ = on(monkeypatch, script, max_retries=1)
    async with anyio.create_task_group() as group:

        async def row() -> None:
            assert checked(await ask("Hi"))["text"] == "Hello"

        for _ in range(20):
            group.start_soon(row)


async def test_any_number_of_rows_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    ask, network = on(monkeypatch, error_reply(400))
    for _ in range(150):
        assert checked(await ask("Hi"))["error"] == "bad_request"
    assert len(network.requests) == 150


# --- arguments ---


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"model": ""}, ValueError),
        ({"model": 7}, TypeError),
        ({"base_url": "nowhere"}, ValueError),
        ({"provider": "unheard-of"}, ValueError),
        ({"api_key_env": ""}, ValueError),
        ({"api_key_env": 7}, TypeError),
        ({"concurrency": 0}, ValueError),
        ({"concurrency": 1.5}, TypeError),
        ({"per_second": 0}, ValueError),
        ({"max_retries": -1}, ValueError),
        ({"max_retries": "many"}, TypeError),
        ({"patience": -1}, ValueError),
        ({"timeouts": 30}, TypeError),
        ({"on_cut": "glue"}, ValueError),
        ({"on_refused": "shrug"}, ValueError),
        ({"params": {"messages": []}}, ValueError),
        ({"params": {"temperature": float("nan")}}, ValueError),
        ({"params": {"tools": object()}}, TypeError),
        ({"params": [1]}, TypeError),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        Completions(**{"model": "m", "base_url": URL, **arguments})


def test_it_says_what_it_is() -> None:
    assert repr(Completions("m", base_url=URL, concurrency=8)) == "Completions('m', concurrency=8)"


# --- keys ---


async def test_the_key_is_read_where_rows_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    ask, network = on(monkeypatch, OK, api_key_env="SOME_KEY")
    with pytest.raises(ValueError, match="SOME_KEY"):
        await ask("Hi")
    assert not network.connections
    monkeypatch.setenv("SOME_KEY", "sk-one")
    await ask("Hi")
    monkeypatch.setenv("SOME_KEY", "sk-two")
    await ask("Hi")
    assert [r.headers["authorization"] for r in network.requests] == [
        "Bearer sk-one",
        "Bearer sk-two",
    ]


async def test_a_provider_has_its_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    ask, network = on(monkeypatch, OK, base_url=None, provider="groq")
    with pytest.raises(ValueError, match="GROQ_API_KEY"):
        await ask("Hi")
    monkeypatch.setenv("GROQ_API_KEY", "sk-groq")
    assert checked(await ask("Hi"))["text"] == "Hello"
    assert network.requests[0].headers["authorization"] == "Bearer sk-groq"


async def test_a_provider_s_key_is_not_sent_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    ask, network = on(monkeypatch, OK)
    await ask("Hi")
    assert "authorization" not in network.requests[0].headers


# --- pickles ---


def test_a_pickle_has_the_settings_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-secret")
    ask = Completions("m", base_url=URL, api_key_env="SOME_KEY", timeouts=Timeouts(read=7))
    pickled = pickle.dumps(ask)
    assert b"sk-secret" not in pickled
    assert b"SOME_KEY" in pickled
    # cloudpickle, which engines use, would pickle a method's class by value.
    rebuild, _ = ask.__reduce__()
    assert getattr(__import__(rebuild.__module__, fromlist=["_"]), rebuild.__qualname__) is rebuild


async def test_copies_of_one_process_share_their_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    ask, network = on(monkeypatch, reply(Pause(1), OK.data), concurrency=1)
    copies = [pickle.loads(pickle.dumps(ask)) for _ in range(3)]
    start = anyio.current_time()
    async with anyio.create_task_group() as group:
        for each in copies:
            group.start_soon(each, "Hi")
    assert anyio.current_time() - start == pytest.approx(3)
    assert len(network.connections) == 1


def test_restored_ones_are_kept_for_a_while() -> None:
    # As an engine does it that unpickles one for each of its tasks.
    pickles = [pickle.dumps(Completions(f"m{n}", base_url=URL)) for n in range(KEPT + 1)]
    gc.collect()
    first = id(pickle.loads(pickles[0]))
    gc.collect()
    assert id(pickle.loads(pickles[0])) == first
    for each in pickles:
        assert repr(pickle.loads(each)).startswith("Completions('m")


async def test_another_process_has_its_own_client() -> None:
    ask = Completions("m", base_url="http://127.0.0.1:1/v1", params={"seed": 7}, raw=True)
    program = """
import asyncio, logging, pickle
logging.getLogger("asyncio").setLevel(logging.ERROR)
ask = pickle.loads(bytes.fromhex(sys.argv[2]))
assert pickle.loads(pickle.dumps(ask)) is ask
import penstock.engines.worker as worker
from functools import partial
from penstock.testing import MemoryNetwork, json_reply, completion
network = MemoryNetwork(json_reply(completion("there")))
worker.AsyncClient = partial(worker.AsyncClient, network=network)
answer = asyncio.run(ask("Hi"))
assert answer["text"] == "there" and '"there"' in answer["body"], answer
assert network.requests[0].json["seed"] == 7
"""
    code, _, errors = run_program(program, URL, pickle.dumps(ask).hex(), timeout=60)
    assert (code, errors) == (0, "")


# --- event loops, threads, processes ---


def loops(backend: Backend, function: Any, *arguments: Any) -> Any:
    return anyio.run(function, *arguments, backend=backend[0], backend_options=backend[1])


async def many(ask: Completions, count: int = 5) -> None:
    async with anyio.create_task_group() as group:

        async def row(number: int) -> None:
            assert checked(await ask(f"row {number}"))["text"] == f"row {number}"

        for number in range(count):
            group.start_soon(row, number)


@pytest.mark.parametrize("backend", REAL_BACKENDS)
def test_one_event_loop_after_the_other(backend: Backend) -> None:
    before = open_fds()
    with serve_in_thread(echo) as server:
        ask = Completions("m", base_url=server.base_url)
        for _ in range(3):
            loops(backend, many, ask)
            # Closed when the loop ended, with no help of the garbage collector's.
            assert becomes_true(lambda: server.open_connections == 0)
        assert len(server.requests) == 15
    assert open_fds() <= before


def test_event_loops_of_every_kind_in_threads() -> None:
    failures: list[BaseException] = []

    def work(backend: Backend) -> None:
        try:
            for _ in range(3):
                loops(backend, many, ask)
        except BaseException as error:  # noqa: ASYNC103, BLE001
            failures.append(error)

    with serve_in_thread(echo) as server:
        ask = Completions("m", base_url=server.base_url, concurrency=2)
        threads = [
            threading.Thread(target=work, args=(parameter.values[0],))
            for parameter in REAL_BACKENDS * 2
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert len(server.requests) == 3 * 5 * len(threads)
        assert becomes_true(lambda: server.open_connections == 0)


def test_an_asyncio_loop_that_is_closed_without_a_word() -> None:
    before = open_fds()
    with serve_in_thread(echo) as server:
        ask = Completions("m", base_url=server.base_url)
        for loop in (asyncio.new_event_loop(), asyncio.new_event_loop()):
            loop.run_until_complete(many(ask))
            loop.close()
        ask.close()
        assert becomes_true(lambda: server.open_connections == 0)
        gc.collect()
    assert open_fds() <= before


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("way", ["dropped", "closed"])
@pytest.mark.parametrize("backend", REAL_BACKENDS)
def test_connections_go_when_it_does(backend: Backend, way: str) -> None:
    async def main() -> None:
        async with serve(echo) as server:
            ask = [Completions("m", base_url=server.base_url)]
            await many(ask[0])
            assert server.open_connections > 0
            if way == "closed":
                ask[0].close()
            else:
                ask.clear()
            await server.wait_until(lambda: server.open_connections == 0)
            if way == "closed":
                await many(ask[0])

    loops(backend, main)
    gc.collect()


PROGRAMS = {
    "an event loop that ends": "asyncio.run(many())",
    "trio": "anyio.run(many, backend='trio')",
    "a loop that is only closed": """
loop = asyncio.new_event_loop()
loop.run_until_complete(many())
loop.close()
""",
    "a loop in a daemon thread, as Daft has one": """
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
asyncio.run_coroutine_threadsafe(many(), loop).result()
""",
    "rows under way in a daemon thread": """
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
asyncio.run_coroutine_threadsafe(many(), loop).result()
future = asyncio.run_coroutine_threadsafe(many(slow=True), loop)
time.sleep(0.1)
""",
    "an object that nobody holds": """
async def main():
    await Completions("m", base_url=sys.argv[1])("Hi")
asyncio.run(main())
anyio.run(main, backend="trio")
""",
    "a fork in between": """
asyncio.run(many())
async def main():
    await many()
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    await many()
asyncio.run(main())
child = os.fork()
if child:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
asyncio.run(many())
""",
    "a fork from within": """
async def main():
    await many()
    child = os.fork()
    if child:
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            await asyncio.sleep(0.01)
        await many()
    else:
        def work():
            asyncio.run(many())
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        sys.stderr.flush()
        os._exit(0)
asyncio.run(main())
""",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_is_silent_to_the_exit(program: str) -> None:
    if "fork" in program and not hasattr(os, "fork"):
        pytest.skip("there is no fork here")
    start = """
import asyncio, gc, logging, os, time, warnings, anyio
logging.getLogger("asyncio").setLevel(logging.ERROR)  # slow callbacks, on a busy machine
warnings.simplefilter("always")
warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
from penstock.engines import Completions
ask = Completions("m", base_url=sys.argv[1])
async def many(slow=False):
    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(ask, "slow" if slow else "Hi")
"""

    def script(request: RecordedRequest) -> Reply:
        slow = request.json["messages"][0]["content"] == "slow"
        return reply(Pause(30), OK.data) if slow else OK

    with serve_in_thread(script) as server:
        code, output, errors = run_program(start + PROGRAMS[program], server.base_url, timeout=60)
        assert (code, output, errors) == (0, "", "")
        assert becomes_true(lambda: server.open_connections == 0)


def test_another_limiter_in_another_loop_knows_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A slot that is lent around the call is of the caller's own limiter.
    ask, network = on(monkeypatch, json_reply(completion("Hello")))

    async def main() -> None:
        limiter = Limiter(1)
        async with penstock.fan_out(ask, ["a", "b", "c"], limit=limiter) as results:
            async for result in results:
                assert checked(result.unwrap())["text"] == "Hello"

    anyio.run(main)
    assert len(network.requests) == 3
