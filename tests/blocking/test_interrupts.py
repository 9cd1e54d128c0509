"""KeyboardInterrupt at every line of every public block: nothing is left that nobody would close.

A trace function raises it, as a signal's handler does, at one line of the blocking face after the
other: while a block is entered, in its body, while it is left. PENSTOCK_SWEEP=all takes every line,
otherwise some of them.
"""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from penstock import Client, Limiter, blocking
from penstock.testing.replies import sse_reply, tokens
from penstock.testing.script import RecordedRequest, Reply, Stall
from penstock.testing.server import Server, becomes_true, serve_in_thread
from tests.support.blocking import HELLO, client_of
from tests.support.chat import REQUEST

from .conftest import own_threads

ENDLESS = sse_reply([*tokens("a", "b", "c")[:4], Stall()], done=False)
ASK_ENDLESS: dict[str, Any] = {**REQUEST, "endless": True}
FACE = str(Path(blocking.__file__).parent)
POINTS = 10_000 if os.environ.get("PENSTOCK_SWEEP") == "all" else 60


def script(request: RecordedRequest) -> Reply:
    return ENDLESS if "endless" in request.json else HELLO


class Interrupt:
    """Raises KeyboardInterrupt in this thread, at the n-th line of the blocking face."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.seen = 0
        self.where = ""
        self.in_call_of = ""

    def trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(FACE):
            return None
        if event in ("call", "line"):
            self.seen += 1
            if self.seen == self.at:
                sys.settrace(None)
                name = Path(frame.f_code.co_filename).name
                self.where = f"{event} {frame.f_code.co_name} in {name}:{frame.f_lineno}"
                self.in_call_of = frame.f_code.co_name if event == "call" else ""
                raise KeyboardInterrupt(self.where)
        return self.trace

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


def text_completion(client: Client, limiter: Limiter, keep: Keep) -> None:
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
    text_completion,
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


@pytest.mark.parametrize("kept", [False, True], ids=["", "kept"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_interrupted_at_any_line(scenario: Scenario, kept: bool) -> None:
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
                if not kept or interrupt.in_call_of in ("__exit__",):
                    # Before its first line a function cannot be protected.
                    keep.clear()
                    gc.collect()
                if not becomes_true(lambda: is_free(server, client, limiter), seconds=3):
                    left.append(interrupt.where)
                    keep.clear()
                    gc.collect()
                    assert becomes_true(lambda: is_free(server, client, limiter), seconds=3), left
        assert client.complete(REQUEST).choices[0].message.content == "Hello!"
    assert left == []
    assert becomes_true(lambda: not own_threads(), seconds=5)
