"""What tests of the blocking client share: replies, clients, interruptions, other processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import penstock
from penstock import Client
from penstock.blocking._loop.crossing import Crossing
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import completion, json_reply, sse_reply, tokens
from penstock.testing.script import Pause, RecordedRequest, Reply, Script, Stall, reply
from penstock.testing.server import becomes_true

from .chat import KEY, REQUEST, URL

if TYPE_CHECKING:
    from penstock.testing.server import Server

SILENT = reply(Stall())
"""Not even a head."""
STALLED = sse_reply([*tokens("a", "b")[:3], Stall()], done=False)
"""Role, "a" and "b", then silence."""
HELLO = sse_reply(tokens("Hel", "lo", "!"))

SOURCE = str(Path(penstock.__file__).parents[1])


def answer(request: RecordedRequest) -> Reply:
    """Say what the request's last message says, streamed or not."""
    text: str = request.json["messages"][-1]["content"]
    if request.json.get("stream"):
        return sse_reply(tokens(*text))
    return json_reply(completion(text))


def slowly(request: RecordedRequest) -> Reply:
    """The same, with a moment before each chunk."""
    text: str = request.json["messages"][-1]["content"]
    events: list[Any] = []
    for event in tokens(*text):
        events += [Pause(0.005), event]
    return sse_reply(events)


def saying(text: object) -> dict[str, Any]:
    """A request that the servers above answer with this text."""
    return {"model": "test-model", "messages": [{"role": "user", "content": str(text)}]}


def client_of(server: Server, **options: Any) -> Client:
    return Client(server.base_url, **{"api_key": "k", **options})


def client_on(network: MemoryNetwork | Script, base_url: str = URL, **options: Any) -> Client:
    """Return a client whose connections go to a scripted network, with a key of its own."""
    if not isinstance(network, MemoryNetwork):
        network = MemoryNetwork(network)
    return Client(base_url, **{"api_key": KEY, **options}, network=network)


def stream_of(client: Client, **params: Any) -> penstock.blocking.Stream:
    return client.chat.completions.stream(**{**REQUEST, **params})


@contextmanager
def interrupted_when(condition: Callable[[], object]) -> Iterator[None]:
    """Send this process's main thread a SIGINT as soon as the condition is true."""
    main = threading.main_thread().ident
    assert main is not None

    def watch() -> None:
        if becomes_true(condition):
            signal.pthread_kill(main, signal.SIGINT)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        watcher.join()


@contextmanager
def interrupting_ends_of_waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Interrupt the first call in the block when it is over, but has not returned yet."""
    wait = Crossing._wait

    def interrupted(call: Crossing[Any]) -> None:
        monkeypatch.setattr(Crossing, "_wait", wait)
        wait(call)
        raise KeyboardInterrupt

    monkeypatch.setattr(Crossing, "_wait", interrupted)
    yield


@contextmanager
def in_thread(fn: Callable[[], Any]) -> Iterator[list[Any]]:
    """Run `fn` beside the block; the list gets its result, or what it raised."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(fn())
        except BaseException as error:  # noqa: BLE001, ASYNC103 - looked at by the test
            outcome.append(error)

    thread = threading.Thread(target=run, name="test")
    thread.start()
    try:
        yield outcome
    finally:
        thread.join(20)
        assert not thread.is_alive()


PROLOGUE = """
import gc, os, queue, sys, threading
import penstock
from penstock import Client, blocking
R = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
url = sys.argv[1]
"""


def start_program(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Run `code` in a Python of its own, with a few names at hand."""
    environment = {
        name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")
    }
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", PROLOGUE + code, *arguments],
        env={**environment, "PYTHONPATH": SOURCE},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_program(code: str, *arguments: str, timeout: float = 20) -> tuple[int, str, str]:
    """Run it to its end: exit code, output, errors. Killed when it takes too long."""
    with start_program(code, *arguments) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return process.returncode, output, errors
