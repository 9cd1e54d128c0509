"""Whole HTTP/1.1 responses of an OpenAI-compatible server, and the chunks inside them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Literal, TypeAlias, cast

from .script import End, Repeat, Reply, Send, Step

Event: TypeAlias = "str | bytes | Mapping[str, Any] | Step"
Headers: TypeAlias = "Mapping[str, str] | Iterable[tuple[str, str]]"
Framing: TypeAlias = "bool | Literal['close']"


def tokens(
    *texts: str,
    finish: str | None = "stop",
    usage: Mapping[str, Any] | None = None,
    role_first: bool = True,
    model: str = "test-model",
    id: str = "chatcmpl-1",
    index: int = 0,
) -> list[dict[str, Any]]:
    """Return the chunks OpenAI sends for one choice: role, texts, finish_reason, then usage."""

    def chunk(choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        head = {"id": id, "object": "chat.completion.chunk", "created": 1700000000, "model": model}
        return {**head, "choices": choices, **more}

    def choice(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}

    chunks = [chunk([choice({"role": "assistant", "content": ""})])] if role_first else []
    chunks += [chunk([choice({"content": text})]) for text in texts]
    if finish is not None:
        chunks.append(chunk([choice({}, finish)]))
    if usage is not None:
        chunks.append(chunk([], usage=dict(usage)))
    return chunks


def completion(
    content: str = "Hello",
    *,
    finish: str = "stop",
    usage: Mapping[str, Any] | None = None,
    model: str = "test-model",
    id: str = "chatcmpl-1",
) -> dict[str, Any]:
    """Return the JSON object of an answer without streaming."""
    message = {"role": "assistant", "content": content, "refusal": None}
    return {
        "id": id,
        "object": "chat.completion",
        "created": 1700000000,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": dict(usage or {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}),
    }


def sse_event(event: str | bytes | Mapping[str, Any], newline: str = "\n") -> bytes:
    """Return one event's bytes: a dict as JSON, a str as data lines, bytes as they are."""
    if isinstance(event, bytes):
        return event
    text = event if isinstance(event, str) else json.dumps(event, separators=(",", ":"))
    lines = "".join(f"data: {line}{newline}" for line in text.split("\n"))
    return (lines + newline).encode()


def error_event(
    message: str, *, code: str | int | None = None, type: str | None = None
) -> dict[str, Any]:
    """Return the event with which a server reports an error inside a 200 stream."""
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


PING = b": ping\n\n"
"""A comment, which servers send to keep a silent stream open. It is not an event."""


def sse_reply(
    events: Sequence[Event],
    *,
    chunked: Framing = True,
    done: bool = True,
    status: int = 200,
    headers: Headers = (),
    one_segment_each: bool = False,
    newline: str = "\n",
    bom: bool = False,
    content_type: str | None = "text/event-stream",
) -> Reply:
    """Return an event stream.

    `chunked`: True, or False for a content-length, or "close" for a body that ends with the
    connection. Steps between the events (`Pause(3)`, `Reset()`) are played in their place; the
    events between them are one segment, unless `one_segment_each`. `newline`: the end of
    lines, for instance CRLF or CR. `bom`: begin with a byte order mark. `done=False`: no [DONE].
    """
    parts: list[bytes | Step] = [b"\xef\xbb\xbf"] if bom else []
    for event in [*events, "[DONE]"] if done else events:
        if not isinstance(event, str | bytes | Mapping):
            parts.append(event)
        else:
            parts.append(sse_event(event, newline))
    more = [("content-type", content_type)] if content_type is not None else []
    return _frame(status, [*more, *_pairs(headers)], parts, chunked, one_segment_each)


def json_reply(
    obj: Any, status: int = 200, headers: Headers = (), *, chunked: Framing = False
) -> Reply:
    """Return a response with a JSON body, with a content-length by default."""
    return status_reply(
        status, json.dumps(obj), [("content-type", "application/json"), *_pairs(headers)],
        chunked=chunked,
    )  # fmt: skip


def status_reply(
    status: int, body: str | bytes = b"", headers: Headers = (), *, chunked: Framing = False
) -> Reply:
    """Return a response with any status and any body."""
    data = body.encode() if isinstance(body, str) else body
    return _frame(status, _pairs(headers), [data] if data else [], chunked, False)


def error_reply(
    status: int,
    message: str = "no",
    *,
    code: str | None = None,
    type: str | None = None,
    headers: Headers = (),
) -> Reply:
    """Return an error response with OpenAI's envelope."""
    error = {"message": message, "type": type, "param": None, "code": code}
    return json_reply({"error": error}, status, headers)


def head(status: int, headers: Headers = ()) -> bytes:
    """Return the bytes of a response head."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{k}: {v}" for k, v in _pairs(headers)), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """Return one chunk of chunked framing."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


def _pairs(headers: Headers) -> list[tuple[str, str]]:
    if isinstance(headers, Mapping):
        return list(cast("Mapping[str, str]", headers).items())
    return list(headers)


def _frame(
    status: int,
    headers: list[tuple[str, str]],
    parts: Sequence[bytes | Step],
    chunked: Framing,
    one_segment_each: bool,
) -> Reply:
    """Put the head before the parts and the framing around them, and cut all into segments."""
    wrap = chunk if chunked is True else bytes
    framed: list[bytes | Step] = []
    length = 0
    for part in parts:
        if isinstance(part, bytes):
            length += len(part)
            framed.append(wrap(part))
        elif isinstance(part, Repeat):
            length += len(part.data) * (part.times or 0)
            framed.append(Repeat(wrap(part.data), part.times, part.every))
        else:
            framed.append(part)
    if chunked is True:
        headers = [*headers, ("transfer-encoding", "chunked")]
        framed.append(LAST_CHUNK)
    elif chunked == "close":
        headers = [*headers, ("connection", "close")]
        framed.append(End())
    else:
        headers = [*headers, ("content-length", str(length))]
    steps: list[Step] = []
    for part in [head(status, headers), *framed]:
        last = steps[-1] if steps else None
        if not isinstance(part, bytes):
            steps.append(part)
        elif isinstance(last, Send) and not one_segment_each:
            steps[-1] = Send(last.data + part)
        else:
            steps.append(Send(part))
    return Reply(tuple(steps))
