"""Bodies that are no event stream although one was asked for, and the other way round."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penstock._wire.unstreamed import (
    encoded,
    ends_with_sentinel,
    looks_like_events,
    looks_like_json,
    whole_completion,
    without_sentinel,
)


@pytest.mark.parametrize(
    ("head", "looks"),
    [
        (b"data: x", True),
        (b": ping", True),
        (b"\xef\xbb\xbf\r\n\nid: 1", True),
        (b"retry:5", True),
        (b"event:x", True),
        (b"", None),
        (b"\xef\xbb", None),
        (b"\xef\xbb\xbf", None),
        (b"\n\n", None),
        (b"dat", None),
        (b"data", None),
        (b"datum", False),
        (b" data: x", False),
        (b"{", False),
        (b"\n" * 1024 + b"data: x", False),
        (b"\n" * 1023 + b":", True),
    ],
)
def test_what_looks_like_events(head: bytes, looks: bool | None) -> None:
    assert looks_like_events(head) is looks
    assert looks_like_events(bytearray(head)) is looks


@pytest.mark.parametrize(
    ("head", "looks"),
    [(b"{", True), (b"\xef\xbb\xbf \n{", True), (b"", False), (b"[", False), (b"<{", False)],
)
def test_what_looks_like_json(head: bytes, looks: bool) -> None:
    assert looks_like_json(head) is looks


@pytest.mark.parametrize(
    ("body", "json_text", "ended"),
    [
        (b"{}", b"{}", False),
        (b"{}data: [DONE]", b"{}", False),
        (b"{}\ndata: [DONE]", b"{}", True),
        (b"{}\n\ndata: [DONE]\n\n", b"{}", True),
        (b"{}\r\n\r\ndata:[DONE]\r\n", b"{}", True),
        (b'{"text":"data: [DONE]"}', b'{"text":"data: [DONE]"}', False),
        (b'{"text":"data: [DONE]', b'{"text":"', False),
        (b"{}\ndata: [DONE] and more", b"{}\ndata: [DONE] and more", False),
    ],
)
def test_json_before_the_sentinel(body: bytes, json_text: bytes, ended: bool) -> None:
    assert without_sentinel(body) == json_text
    # Where JSON may go on, only a line of its own is the sentinel.
    assert ends_with_sentinel(body) == ended
    assert ends_with_sentinel(bytearray(body)) == ended


def whole(*choices: Any, chat: bool = True, **more: Any) -> Any:
    return whole_completion(json.dumps({"choices": choices, **more}).encode(), chat=chat)


def test_a_message_becomes_a_delta() -> None:
    message = {"role": "assistant", "content": "Hi", "reasoning": "r", "audio": {"id": "a"}}
    payload = whole(
        {"index": 1, "message": message, "finish_reason": "stop", "logprobs": None},
        object="chat.completion",
        usage={"total_tokens": 3},
    )
    assert payload == {
        "choices": [{"index": 1, "delta": message, "finish_reason": "stop", "logprobs": None}],
        "object": "chat.completion.chunk",
        "usage": {"total_tokens": 3},
    }
    assert json.loads(encoded(payload)) == payload


@pytest.mark.parametrize("index", [{}, {"index": None}, {"index": 0}])
def test_tool_calls_get_the_index_of_their_position(index: dict[str, Any]) -> None:
    calls = [{"id": "a", **index}, {"id": "b", **index}]
    payload = whole({"message": {"tool_calls": calls}})
    assert payload["choices"][0]["delta"]["tool_calls"] == [
        {"id": "a", "index": 0},
        {"id": "b", "index": 1},
    ]


def test_text_is_content_in_a_chat_and_stays_text_elsewhere() -> None:
    assert whole({"text": "a"})["choices"] == [{"text": "a", "delta": {"content": "a"}}]
    assert whole({"text": "a"}, chat=False)["choices"] == [{"text": "a"}]


def test_what_msgspec_refuses() -> None:
    body = b'{"choices":[{"message":{"content":"\\ud83d"},"logprobs":NaN}]}'
    payload = whole_completion(body, chat=True)
    assert payload is not None
    assert b"\\ud83d" in encoded(payload)
    assert b"NaN" in encoded(payload)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"5", b"{}", b'{"choices":null}', b'{"choices":{}}', b'{"choices":[]}',
        b'{"choices":[{}]}', b'{"choices":[5,null]}', b'{"choices":[{"delta":{"content":"a"}}]}',
    ],
)  # fmt: skip
def test_what_is_none(body: bytes) -> None:
    assert whole_completion(body, chat=True) is None
