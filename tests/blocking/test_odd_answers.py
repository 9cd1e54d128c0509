"""The blocking client where an answer ends in its own way, or is another than was asked for."""

from __future__ import annotations

from typing import Any

import pytest

import penstock
from penstock import Timeouts
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import completion, json_reply, sse_event, sse_reply, tokens
from penstock.testing.script import Stall
from tests.support.blocking import client_on
from tests.support.chat import REQUEST

SHORT = Timeouts(trailing=0.05, read=20)


def test_an_answer_that_is_held_open_is_complete() -> None:
    network = MemoryNetwork(sse_reply([*tokens("who", "le"), Stall()], done=False))
    with client_on(network, timeouts=SHORT) as client:
        assert client.complete(REQUEST).text == "whole"
        with client.chat.completions.stream(**REQUEST) as stream:
            assert "".join(stream.text) == "whole"
        with penstock.blocking.fan_out(client.complete, [REQUEST] * 2, limit=2) as results:
            assert [result.unwrap().text for result in results] == ["whole"] * 2
    assert network.open_connections == 0
    # None of the connections was used again.
    assert len(network.connections) == len(network.requests) == 4


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (sse_reply([{"type": "error", "message": "boom"}]), "boom"),
        (sse_reply([{"detail": "boom"}]), "boom"),
        (json_reply({"choices": None, "message": "boom"}), "boom"),
    ],
)
def test_an_error_with_the_words_of_the_server(reply: Any, words: str) -> None:
    with client_on(MemoryNetwork(reply)) as client:
        for ask in (client.complete, lambda asked: client.chat.completions.create(**asked)):
            with pytest.raises(penstock.PenstockError, match=words):
                ask(REQUEST)


def test_the_other_way_than_asked() -> None:
    events = sse_reply(tokens("who", "le"))
    with client_on(MemoryNetwork([json_reply(completion("whole")), events])) as client:
        assert client.complete(REQUEST).text == "whole"
        created = client.chat.completions.create(**REQUEST)
        assert (created.text, created.request_id) == ("whole", None)


def test_events_and_bytes() -> None:
    named = [b"event: delta\n" + sse_event({"n": n}) for n in range(3)]
    reply = sse_reply([*named, b"event: stop\ndata: {}\n\n", Stall()], done=False)
    with client_on(MemoryNetwork(reply)) as client:
        with client.events("/x", done=("stop",)) as events:
            assert [event.event for event in events] == ["delta"] * 3 + ["stop"]
        with client.stream("GET", "/x") as body:
            assert next(iter(body)).startswith(b"event: delta")
