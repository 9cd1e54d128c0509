"""Text completions, events and bytes of any endpoint, from the blocking client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import penstock
from penstock import Client, StreamClosedError, StreamState
from penstock.blocking import EventStream, ResponseStream, TextCompletionStream
from penstock.testing.replies import json_reply, sse_reply
from penstock.testing.script import RecordedRequest, Reply, Stall
from penstock.testing.server import becomes_true, serve_in_thread
from tests.support.blocking import client_of, interrupted_when


def piece(text: str, finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "text": text, "finish_reason": finish, "logprobs": None}
    return {"id": "c", "object": "text_completion", "model": "m", "choices": [choice]}


TEXT = sse_reply([piece("Hel"), piece("lo", "stop")])
EVENTS = sse_reply(
    [b'event: step\ndata: {"n": 1}\n\n', b'event: end\ndata: {"n": 2}\n\n'], done=False
)
PROMPT: dict[str, Any] = {"model": "m", "prompt": "Say"}


def script(request: RecordedRequest) -> Reply:
    if request.target.endswith("/completions"):
        if request.json.get("stream"):
            return TEXT
        return json_reply(piece("Hello", "stop"))
    return EVENTS


def test_text_completions() -> None:
    with serve_in_thread(script) as server, client_of(server) as client:
        whole = client.completions.create(**PROMPT)
        assert whole.choices[0].text == "Hello"
        with client.completions.stream(**PROMPT) as stream:
            assert isinstance(stream, TextCompletionStream)
            assert list(stream.text) == ["Hel", "lo"]
            assert stream.partial.choices[0].text == "Hello"
        stream = client.completions.create(**PROMPT, stream=True)
        assert next(stream).choices[0].text == "Hel"
        assert stream.collect().choices[0].text == "Hello"
        assert repr(stream) == "<TextCompletionStream 'm' completed>"


def test_events() -> None:
    with serve_in_thread(script) as server, client_of(server) as client:
        events = client.events("/other", json={}, done=["end"])
        assert isinstance(events, EventStream)
        assert events.state.value == "new"
        with events:
            assert [(event.event, event.json()) for event in events] == [
                ("step", {"n": 1}),
                ("end", {"n": 2}),
            ]
        assert events.state is StreamState.COMPLETED
        assert events.statistics().events == 2
        with pytest.raises(penstock.IncompleteStreamError):
            list(client.events("/other", json={}, done=["never"]))


def test_bytes() -> None:
    with serve_in_thread(script) as server, client_of(server) as client:
        with client.stream("POST", "/other", json={}) as body:
            assert isinstance(body, ResponseStream)
            assert body.status_code == 200
            first = next(body)
            rest = body.read()
        assert (first + rest).startswith(b"event: step\ndata: ")
        assert body.state is StreamState.COMPLETED


OPENED: dict[str, Callable[[Client], Any]] = {
    "text": lambda client: client.completions.stream(**PROMPT),
    "events": lambda client: client.events("/other", json={}),
    "bytes": lambda client: client.stream("POST", "/other", json={}),
}


@pytest.mark.parametrize("name", OPENED)
def test_ctrl_c_closes_the_connection_at_once(name: str) -> None:
    stalled = sse_reply([piece("Hel"), Stall()], done=False)
    with serve_in_thread(stalled) as server, client_of(server) as client:
        stream = OPENED[name](client)
        next(stream)
        with (
            interrupted_when(lambda: stream._reader is not None),
            pytest.raises(KeyboardInterrupt),
        ):
            next(stream)
        assert stream.state is StreamState.CLOSED
        assert becomes_true(lambda: server.open_connections == 0, seconds=2)
        with pytest.raises(StreamClosedError):
            next(stream)
