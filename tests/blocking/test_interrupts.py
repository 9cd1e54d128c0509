"""KeyboardInterrupt at every line of every public block: nothing is left that nobody would close.

A trace function raises it, as a signal's handler does, at one line of the blocking face after the
other: while a block is entered, in its body, while it is left. PENSTOCK_SWEEP=all takes every line,
otherwise some of them.
"""

from __future__ import annotations

import gc
import linecache
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from penstock import Client, Limiter, blocking
from penstock.blocking._loop import shared_loop
from penstock.testing.replies import sse_reply, tokens
from penstock.testing.script import RecordedRequest, Reply, Stall
from penstock.testing.server import Server, becomes_true, serve_in_thread
from tests.support.blocking import HELLO, client_of, run_program
from tests.support.chat import REQUEST
from tests.support.sweeps import EVERYTHING

ENDLESS = sse_reply([*tokens("a", "b", "c")[:4], Stall()], done=False)
ASK_ENDLESS: dict[str, Any] = {**REQUEST, "endless": True}
FACE = str(Path(blocking.__file__).parent)
POINTS = 10_000 if EVERYTHING else 12


def script(request: RecordedRequest) -> Reply:
    return ENDLESS if "endless" in request.json else HELLO


class Interrupt:
    """Raises KeyboardInterrupt in this thread, at the n-th line of the blocking face."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.seen = 0
        self.where = ""
        self.in_call_of = ""
        self._lines: dict[int, int] = {}

    def trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(FACE) or frame.f_code.co_name == "__del__":
            return None  # nothing leaves a `__del__`
        if event in ("call", "line") and not self._is_skipped(frame, event):
            self.seen += 1
            if self.seen == self.at:
                sys.settrace(None)
                name = Path(frame.f_code.co_filename).name
                self.where = f"{event} {frame.f_code.co_name} in {name}:{frame.f_lineno}"
                self.in_call_of = frame.f_code.co_name if event == "call" else ""
                raise KeyboardInterrupt(self.where)
        return self.trace

    def _is_skipped(self, frame: FrameType, event: str) -> bool:
        """At a `try:`, and from the end of a `with` to its `__exit__`, no signal is handled."""
        before = self._lines.get(id(frame), 0) if event == "line" else 0
        self._lines[id(frame)] = frame.f_lineno
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        return line == "try:" or (frame.f_lineno < before and line.startswith("with "))

    @contextmanager
    def active(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self.trace)
        try:
            yield
        finally:
            sys.settrace(before)


Keep = list[Any]
Scenario = Callable[[Client, Limiter, Keep], None]


def read_stream(client: Client, limiter: Limiter, keep: Keep) -> None:
    stream = client.chat.completions.stream(**ASK_ENDLESS)
    keep.append(stream)
    with stream:
        next(stream)
        next(stream.text)


def read_events(client: Client, limiter: Limiter, keep: Keep) -> None:
    with client.events("/other", json={"endless": 1}) as events:
        keep.append(events)
        next(events)


def read_without_a_block(client: Client, limiter: Limiter, keep: Keep) -> None:
    stream = client.chat.completions.stream(**REQUEST)
    stream.collect()


def call(client: Client, limiter: Limiter, keep: Keep) -> None:
    client.complete(REQUEST)


def fan_out_of_complete(client: Client, limiter: Limiter, keep: Keep) -> None:
    requests = [REQUEST, ASK_ENDLESS, ASK_ENDLESS, ASK_ENDLESS]
    results = blocking.fan_out(client.complete, requests, limit=limiter)
    keep.append(results)
    with results:
        next(results)


def fan_out_of_a_function(client: Client, limiter: Limiter, keep: Keep) -> None:
    def work(request: dict[str, Any]) -> Any:
        return client.complete(request)

    requests = iter([REQUEST, ASK_ENDLESS, ASK_ENDLESS, ASK_ENDLESS])
    with blocking.fan_out(work, requests, limit=limiter) as results:
        keep.append(results)
        next(results)


def fan_out_chunks(client: Client, limiter: Limiter, keep: Keep) -> None:
    events = blocking.fan_out_chunks(client, [ASK_ENDLESS] * 3, limit=limiter)
    keep.append(events)
    with events:
        next(events)


def race(client: Client, limiter: Limiter, keep: Keep) -> None:
    contest = blocking.race(client, [ASK_ENDLESS] * 2)
    keep.append(contest)
    with contest as stream:
        next(stream)


SCENARIOS: list[Scenario] = [
    read_stream,
    read_events,
    read_without_a_block,
    call,
    fan_out_of_complete,
    fan_out_of_a_function,
    fan_out_chunks,
    race,
]


def is_free(server: Server, client: Client, limiter: Limiter) -> bool:
    busy = [each for each in server.connections if each.open and each.in_flight]
    return not busy and not limiter.statistics().in_flight


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_interrupted_at_any_line(scenario: Scenario) -> None:
    limiter = Limiter(8)
    left: list[str] = []
    with serve_in_thread(script) as server, client_of(server, limiter=limiter) as client:
        client.complete(REQUEST)
        counting = Interrupt(at=-1)
        with counting.active():
            scenario(client, limiter, [])
        assert counting.seen > 20
        step = max(1, counting.seen // POINTS)
        for at in range(1, counting.seen + 1, step):
            keep: Keep = []
            interrupt = Interrupt(at)
            with warnings.catch_warnings():
                # The last resort says so.
                warnings.simplefilter("ignore", ResourceWarning)
                try:
                    with interrupt.active():
                        scenario(client, limiter, keep)
                except KeyboardInterrupt:
                    pass
                if interrupt.in_call_of == "__exit__":
                    # Before its first line a function cannot be protected.
                    keep.clear()
                    gc.collect()
                if not becomes_true(lambda: is_free(server, client, limiter), seconds=0.7):
                    left.append(interrupt.where)
                    keep.clear()
                    gc.collect()
                    assert becomes_true(lambda: is_free(server, client, limiter), seconds=3), left
        assert client.complete(REQUEST).choices[0].message.content == "Hello!"
    assert left == []
    if (idle := shared_loop._current) is not None:
        # Interrupted while it gave its share back, a block leaves the idle loop: it ends with
        # the interpreter.
        idle.stop(wait=True)


SOAK = """
import random, signal, time
rng = random.Random(int(sys.argv[2]))
E = {**R, "endless": True}
limiter = penstock.Limiter(8)
client = Client(url, api_key="k", limiter=limiter)
client.complete(R)

def stream():
    with client.chat.completions.stream(**E) as opened:
        for _ in opened:
            pass

def fan_out():
    with blocking.fan_out(client.complete, [R, R, E, E, E], limit=limiter) as results:
        for _ in results:
            pass

def fan_out_of_function():
    with blocking.fan_out(lambda r: client.complete(r), iter([R, E, E]), limit=limiter) as results:
        for _ in results:
            pass

def chunks():
    with blocking.fan_out_chunks(client, [R, E, E], limit=limiter) as events:
        for _ in events:
            pass

def race():
    with blocking.race(client, [E, E]) as winner:
        for _ in winner:
            pass

def whole_client():
    with Client(url, api_key="k", limiter=limiter) as own:
        own.complete(R)
        own.complete(E)

def entered():
    with blocking.fan_out(client.complete, [E, E, E], limit=limiter):
        pass
    with client.chat.completions.stream(**E):
        pass

works = [stream, fan_out, fan_out_of_function, chunks, race, whole_client, entered]
for n in range(int(sys.argv[3])):
    work = works[n % len(works)]
    try:
        signal.setitimer(signal.ITIMER_REAL, rng.choice([1e-5, 3e-3, 6e-3]) + rng.random() * 3e-3)
        work()
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        pass
    gc.collect()
    deadline = time.monotonic() + 3
    while limiter.statistics().in_flight:
        assert time.monotonic() < deadline, (n, work, limiter.statistics())
        time.sleep(0.001)
assert client.complete(R).choices[0].message.content == "Hello!"
client.close()
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_signals_at_random_instants(seed: int) -> None:
    times = 2000 if POINTS > 100 else 28
    program = "import signal\nsignal.signal(signal.SIGALRM, signal.default_int_handler)\n" + SOAK
    with serve_in_thread(script) as server:
        code, _, errors = run_program(
            program, server.base_url, str(seed), str(times), timeout=20 + times / 10
        )
        assert code == 0, errors[-3000:]
        assert becomes_true(
            lambda: not [each for each in server.connections if each.open and each.in_flight]
        )
