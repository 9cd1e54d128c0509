"""Responses as a server of the real kind sends them: valid HTTP, valid events, as was asked for."""

from __future__ import annotations

import json
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.decode import decode_chunk, decode_completion
from penstock.testing.replies import (
    LAST_CHUNK,
    PING,
    Framing,
    chunk,
    completion,
    error_event,
    error_reply,
    head,
    json_reply,
    sse_event,
    sse_reply,
    status_reply,
    tokens,
)
from penstock.testing.script import End, Pause, Repeat, Reply, Reset, Send
from penstock.types import ChatCompletion, ChatCompletionChunk
from tests.wire.reference_sse import decode_events


def parsed(reply: Reply) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body as h11 reads them."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(reply.data)
    if reply.steps[-1] == End():
        client.receive_data(b"")
    response = client.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    headers = {name.decode(): value.decode() for name, value in response.headers}
    return response.status_code, headers, body


TEXTS = st.text(st.characters(exclude_characters="\r\n\0", codec="utf-8"), max_size=20)
FRAMINGS: list[Framing] = [True, False, "close"]


@given(
    texts=st.lists(TEXTS, max_size=4),
    chunked=st.sampled_from(FRAMINGS),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    done=st.booleans(),
    bom=st.booleans(),
    apart=st.booleans(),
)
def test_any_event_stream(
    texts: list[str], chunked: Framing, newline: str, done: bool, bom: bool, apart: bool
) -> None:
    sent = tokens(*texts)
    options: dict[str, Any] = {"newline": newline, "done": done, "bom": bom}
    reply = sse_reply(sent, chunked=chunked, one_segment_each=apart, **options)
    status, headers, body = parsed(reply)
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    assert body.startswith(b"\xef\xbb\xbf") == bom
    events = [data for _, data in decode_events(body)]
    if done:
        assert events.pop() == "[DONE]"
    assert [json.loads(data) for data in events] == sent
    # In one piece, or each event in its own.
    assert sum(isinstance(step, Send) for step in reply.steps) == 1 or apart


def test_steps_stand_where_they_were_put() -> None:
    reply = sse_reply(["a", Pause(3), "b", PING, Reset()], done=False, chunked=False)
    first, pause, second, reset = reply.steps
    assert isinstance(first, Send)
    assert first.data.endswith(b"data: a\n\n")
    assert (pause, second, reset) == (Pause(3), Send(b"data: b\n\n" + PING), Reset())


@pytest.mark.parametrize("times", [0, 1, 5])
def test_repeats_are_framed_each_and_count_for_the_length(times: int) -> None:
    event = sse_event("x")
    for chunked in (True, False):
        reply = sse_reply([Repeat(event, times)], chunked=chunked, done=False)
        whole = [step for step in reply.steps if isinstance(step, Repeat)]
        assert [step.data for step in whole] == [chunk(event) if chunked else event]
        if not chunked:
            assert b"content-length: %d\r\n" % (times * len(event)) in reply.data


def test_headers_of_the_callers_own_may_repeat() -> None:
    reply = status_reply(200, b"", [("x-a", "1"), ("x-a", "2")])
    assert reply.data.count(b"x-a: ") == 2
    assert b"content-type" not in sse_reply([], content_type=None).data
    assert b"x-b: 3\r\n" in sse_reply([], headers={"x-b": "3"}).data


@pytest.mark.parametrize(("status", "line"), [(200, "OK"), (404, "Not Found"), (529, "Unknown")])
def test_any_status_has_a_line(status: int, line: str) -> None:
    assert head(status).startswith(f"HTTP/1.1 {status} {line}\r\n".encode())
    assert parsed(status_reply(status, "é"))[::2] == (status, "é".encode())


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=4))
def test_chunks_are_what_h11_calls_chunks(pieces: list[bytes]) -> None:
    framed = head(200, {"transfer-encoding": "chunked"}) + b"".join(map(chunk, pieces))
    assert parsed(Reply((Send(framed + LAST_CHUNK),)))[2] == b"".join(pieces)


# --- what they say ---


def test_tokens_are_what_openai_sends() -> None:
    chunks = tokens("a", "b", usage={"total_tokens": 3}, index=2, model="m", id="i")
    read: list[ChatCompletionChunk] = [decode_chunk(json.dumps(each).encode()) for each in chunks]
    assert {(each.id, each.model, each.object) for each in read} == {
        ("i", "m", "chat.completion.chunk")
    }
    *with_choice, last = read
    assert [each.choices[0].index for each in with_choice] == [2] * 4
    assert [each.choices[0].delta.content for each in with_choice] == ["", "a", "b", None]
    assert with_choice[0].choices[0].delta.role == "assistant"
    assert with_choice[-1].choices[0].finish_reason == "stop"
    assert last.choices == []
    assert last.usage is not None
    assert len(tokens("a", finish=None, role_first=False)) == 1


def test_a_completion_is_what_openai_sends() -> None:
    sent = completion("Hi", finish="length", usage={"total_tokens": 9}, model="m", id="i")
    status, headers, body = parsed(json_reply(sent))
    assert (status, headers["content-type"]) == (200, "application/json")
    read: ChatCompletion = decode_completion(body)
    assert (read.id, read.model, read.object) == ("i", "m", "chat.completion")
    assert (read.choices[0].message.content, read.choices[0].finish_reason) == ("Hi", "length")
    assert read.usage is not None
    assert read.usage.total_tokens == 9


def test_errors_have_openais_envelope() -> None:
    expected = {"message": "m", "type": "t", "param": None, "code": "c"}
    status, headers, body = parsed(
        error_reply(429, "m", code="c", type="t", headers={"retry-after": "1"})
    )
    assert (status, headers["retry-after"], json.loads(body)) == (429, "1", {"error": expected})
    assert error_event("m", code="c", type="t") == {"error": expected}


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_of_an_event(newline: str) -> None:
    assert sse_event("a\nb", newline).decode().split(newline) == ["data: a", "data: b", "", ""]
    assert sse_event({"a": "é\n"}) == b'data: {"a":"\\u00e9\\n"}\n\n'
    assert sse_event(PING) is PING
