"""Rows asked on a scripted network."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from penstock import AsyncClient
from penstock.engines import Completions
from penstock.engines.answers import Answer
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import completion, json_reply
from penstock.testing.script import RecordedRequest, Reply, Script

URL = "http://api.test/v1"
TYPES: dict[str, type] = {
    "text": str,
    "error": str,
    "message": str,
    "status_code": int,
    "finish_reason": str,
    "prompt_tokens": int,
    "completion_tokens": int,
    "requests": int,
    "body": str,
}
"""What each member of an answer is, where it is not None."""
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
OK = json_reply(completion("Hello", usage=USAGE))


def on(
    monkeypatch: pytest.MonkeyPatch, script: Script | MemoryNetwork, **options: Any
) -> tuple[Completions, MemoryNetwork]:
    """Return completions whose clients use a scripted network, and the network."""
    network = script if isinstance(script, MemoryNetwork) else MemoryNetwork(script)
    client = partial(AsyncClient, network=network)
    monkeypatch.setattr("penstock.engines.worker.AsyncClient", client)
    return Completions(**{"model": "m", "base_url": URL, **options}), network


def checked(answer: Answer) -> Answer:
    """Return the answer: it has exactly the members it must have, each of its type."""
    members = dict(answer)
    assert list(members) == list(TYPES)
    for name, value in members.items():
        assert value is None or type(value) is TYPES[name], (name, value)
    assert type(answer["requests"]) is int
    assert (answer["error"] is None) == (answer["message"] is None)
    assert answer["error"] is None or answer["text"] is None
    return answer


def echo(request: RecordedRequest) -> Reply:
    """Say what the request's last message says."""
    text: str = request.json["messages"][-1]["content"]
    return json_reply(completion(text, usage=USAGE))
