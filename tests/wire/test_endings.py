"""Where event streams end, by the kind of endpoint: cut at every byte, and in odd forms."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.endings import ending_of
from penstock.errors import IncompleteStreamError
from penstock.headers import Headers
from tests.support.event_streams import CHAT, KINDS, MESSAGES, RESPONSES, body_of

from .pieces import in_pieces

SSE = {"content-type": "text/event-stream; charset=utf-8"}
CHATS, TEXTS, RESPONSE, MESSAGE = KINDS


def end_of(
    body: bytes, target: str, *, pieces: list[bytes] | None = None, **more: str
) -> IncompleteStreamError | None:
    headers = Headers([*SSE.items(), *((name.replace("_", "-"), more[name]) for name in more)])
    ending = ending_of("POST", target, headers)
    assert ending is not None
    for piece in [body] if pieces is None else pieces:
        ending.feed(piece)
    error = ending.end()
    assert error is None or not ending.done
    return error


@pytest.mark.parametrize("target", KINDS)
def test_cut_at_every_byte(target: str) -> None:
    body, whole = KINDS[target]
    for place in range(len(body) + 1):
        error = end_of(body[:place], target)
        assert (error is None) == (place >= whole), place
        if error is not None:
            assert type(error) is IncompleteStreamError


@pytest.mark.parametrize("target", KINDS)
def test_in_pieces(target: str) -> None:
    body, whole = KINDS[target]
    for part in (body, body[: whole - 1]):
        for pieces in in_pieces(part):
            assert (end_of(part, target, pieces=pieces) is None) == (part is body)


@pytest.mark.parametrize("target", KINDS)
def test_compressed(target: str) -> None:
    body, whole = KINDS[target]
    assert end_of(gzip.compress(body), target, content_encoding="gzip") is None
    cut = gzip.compress(body[: whole - 1])
    assert end_of(cut, target, content_encoding="gzip") is not None
    # Whoever decodes it says what is wrong with it.
    assert end_of(b"no gzip", target, content_encoding="gzip") is None


def test_the_sentinel_ends_every_kind() -> None:
    for target in KINDS:
        assert end_of(b"data: [DONE]\n\n", target) is None
        assert end_of(b"data: [DONE]", target) is None


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error": {"message": "no"}}\n\n',
        b'data: {"type": "error", "error": {"message": "no"}}\n\n',
        b'event: error\ndata: {"message": "no"}\n\n',
        b"event: error\ndata: no\n\n",
    ],
)
def test_a_reported_error_is_an_end(target: str, event: bytes) -> None:
    body, whole = KINDS[target]
    first = body[: body.index(b"\n\n") + 2]
    assert whole > len(first)
    assert end_of(first + event, target) is None


@pytest.mark.parametrize("word", ["completed", "failed", "incomplete", "cancelled"])
@pytest.mark.parametrize("form", ["named", "typed"])
def test_each_end_of_a_response(word: str, form: str) -> None:
    data = json.dumps({"type": f"response.{word}", "response": {}})
    name = f"event: response.{word}\n" if form == "named" else ""
    body = body_of(*RESPONSES[:2]) + f"{name}data: {data}\n\n".encode()
    assert end_of(body, RESPONSE) is None


def test_words_of_the_answer_are_no_end() -> None:
    delta = {"type": "response.output_text.delta", "delta": '{"type": "response.completed"} [DONE]'}
    assert end_of(body_of(RESPONSES[0], delta), RESPONSE) is not None
    text = {"type": "content_block_delta", "delta": {"text": '"message_stop" "error": 1'}}
    assert end_of(body_of(MESSAGES[0], text), MESSAGE) is not None


@pytest.mark.parametrize(
    "odd",
    [
        # What the fast decoder refuses, in members that say nothing about the end.
        {"finish_reason": "stop", "index": 0.0},
        {"finish_reason": "stop", "index": None},
        {"finish_reason": 3, "index": "0"},
        {"finish_reason": "stop", "logprobs": float("nan")},
    ],
)
def test_odd_chunks_end_as_well(odd: Any) -> None:
    body = body_of(*CHAT[:2]) + b"data: %b\n\n" % json.dumps({"choices": [odd]}).encode()
    assert end_of(body, CHATS) is None


def test_a_choice_that_never_ends() -> None:
    error = end_of(body_of(*CHAT[:4]), CHATS)
    assert "a finish_reason of choice 0" in str(error)


def test_what_is_not_understood_is_left_to_the_reader() -> None:
    assert end_of(b"data: not json\n\n", CHATS) is None
    assert end_of(b'{"choices": []}', CHATS) is None
    assert end_of(b"", CHATS) is not None


@given(st.binary(max_size=200), st.sampled_from(list(KINDS)))
def test_any_bytes(body: bytes, target: str) -> None:
    end_of(body, target)


@pytest.mark.parametrize(
    ("method", "target", "watched"),
    [
        ("POST", "/openai/deployments/gpt/chat/completions?api-version=1", True),
        ("POST", "/proxy/anthropic/v1/messages?beta=true", True),
        ("POST", "/openai/v1/responses/", True),
        ("GET", "/v1/responses/r_1?stream=true", False),
        ("POST", "/v1/threads/t/runs", False),
        ("POST", "/mcp", False),
        ("GET", "/v1/messages", False),
    ],
)
def test_which_are_watched(method: str, target: str, watched: bool) -> None:
    assert (ending_of(method, target, Headers(SSE.items())) is not None) == watched
    assert ending_of(method, target, Headers([("content-type", "application/json")])) is None
    unknown = Headers([*SSE.items(), ("content-encoding", "br")])
    assert ending_of(method, target, unknown) is None
