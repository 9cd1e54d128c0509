"""Recorded responses, and what each prefix of one is worth by rules 1 and 2 of the wire.

The oracle here shares no code with the library: it removes the framing, splits events and adds
up texts in the plainest way.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import penstock
from penstock.testing.replies import completion, json_reply, sse_reply
from penstock.testing.script import End, Reply, Reset, Send, Stall

Fault = Literal["end", "reset", "stall"]
FAULTS: dict[Fault, End | Reset | Stall] = {"end": End(), "reset": Reset(), "stall": Stall()}

FOLDER = Path(__file__).parent.parent / "recordings"


def delta(content: str | None = None, *, index: int = 0, **more: Any) -> dict[str, Any]:
    """A chunk as short as a server may send it."""
    finish = more.pop("finish", None)
    choice: dict[str, Any] = {"index": index, "delta": {**more}}
    if content is not None:
        choice["delta"]["content"] = content
    if finish is not None:
        choice["finish_reason"] = finish
    return {"choices": [choice]}


def call(arguments: str, **more: Any) -> dict[str, Any]:
    """A chunk with a piece of a tool call."""
    piece = {"index": 0, "function": {"arguments": arguments}, **more}
    return delta(tool_calls=[piece])


USAGE: dict[str, Any] = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
FINISH = delta(finish="stop")
PLAIN = [delta("", role="assistant"), delta("Hé"), delta("llo"), FINISH]


def response(name: str) -> bytes:
    """One of the recordings of real servers; tests/recordings/make.py has made them."""
    return (FOLDER / f"{name}.http").read_bytes()


def _bytes(reply: Reply) -> bytes:
    return reply.data


RECORDINGS: dict[str, bytes] = {
    "chunked-done": _bytes(sse_reply([*PLAIN, USAGE])),
    "chunked-segments": _bytes(sse_reply(PLAIN, done=False, one_segment_each=True)),
    "length-done": _bytes(sse_reply(PLAIN, chunked=False)),
    "length": _bytes(sse_reply([*PLAIN, USAGE], chunked=False, done=False)),
    "close-done": _bytes(sse_reply(PLAIN, chunked="close", newline="\r\n")),
    "close": _bytes(sse_reply([*PLAIN, USAGE], chunked="close", done=False)),
    "tools": _bytes(
        sse_reply(
            [
                call("", id="c1", type="function"),
                call('{"a"'),
                b": ping\n\n",
                call(":1}"),
                delta(finish="tool_calls"),
            ],
            done=False,
        )
    ),
    "two-choices": _bytes(
        sse_reply(
            [
                delta("a"),
                delta("x", index=1),
                delta("b", finish="stop"),
                delta("y", index=1),
                delta(index=1, finish="length"),
            ],
            done=False,
        )
    ),
    "llamacpp": response("llamacpp_stream"),
    "logprobs": response("llamacpp_logprobs"),
    "litellm": response("litellm_stream"),
    "litellm-usage": response("litellm_usage"),
    # The server behind the proxy died, which the proxy tells in the stream; the body ends well.
    "litellm-killed": response("litellm_killed"),
}

# Answers in one piece.
WHOLE: dict[str, bytes] = {
    "llamacpp": response("llamacpp_whole"),
    "litellm": response("litellm_whole"),
    "chunked": _bytes(json_reply(completion("Hello"), chunked=True)),
}

# Refusals, and what they become.
REFUSALS: dict[str, tuple[bytes, type[penstock.APIStatusError]]] = {
    "llamacpp-too-long": (response("llamacpp_too_long"), penstock.BadRequestError),
    "litellm-unknown-model": (response("litellm_unknown_model"), penstock.BadRequestError),
    "litellm-gone": (response("litellm_gone"), penstock.InternalServerError),
}


@dataclass
class Text:
    """What an answer said: the text of each choice, and the arguments of the tool call."""

    choices: dict[int, str] = field(default_factory=dict)
    arguments: str = ""

    def add(self, chunk: Mapping[str, Any]) -> None:
        for choice in chunk["choices"]:
            said = choice["delta"].get("content") or ""
            self.choices[choice["index"]] = self.choices.get(choice["index"], "") + said
            for piece in choice["delta"].get("tool_calls") or ():
                self.arguments += piece["function"]["arguments"]


def text_of(completion: penstock.ChatCompletion | None) -> Text:
    """The same of what the library accumulated."""
    text = Text()
    for choice in completion.choices if completion is not None else ():
        text.choices[choice.index] = choice.message.content or ""
        for tool in choice.message.tool_calls or ():
            text.arguments += tool.function.arguments
    return text


@dataclass
class Worth:
    """What a reader gets of a prefix: this text, then the end (None) or exactly this error."""

    text: Text
    error: type[penstock.PenstockError] | None
    begun: bool


def worth(data: bytes, n: int, fault: Fault, timeout: type[penstock.APITimeoutError]) -> Worth:
    """What the first `n` bytes of this response are worth when `fault` follows."""
    head, _, _ = data.partition(b"\r\n\r\n")
    body = data[len(head) + 4 : max(n, len(head) + 4)]
    text = Text()
    broken = timeout if fault == "stall" else penstock.APIConnectionError
    if n < len(head) + 4:
        return Worth(text, broken, begun=False)
    payload, ended = _unframed(head.lower(), body, fault)
    # A CR ends a line, whether an LF follows or not.
    payload = payload.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    *blocks, rest = payload.split(b"\n\n")
    finished: dict[int, bool] = {}
    for block in blocks:
        said = block.removeprefix(b"data: ")
        if said == b"[DONE]":
            return Worth(text, None, begun=True)
        if said.startswith(b":"):
            continue
        chunk = json.loads(said)
        if chunk.get("error"):
            return Worth(text, penstock.StreamError, begun=True)
        text.add(chunk)
        for choice in chunk["choices"]:
            index = choice["index"]
            finished[index] = finished.get(index, False) or bool(choice.get("finish_reason"))
    if ended:
        done = rest.rstrip(b"\n") == b"data: [DONE]"
        complete = done or (bool(finished) and all(finished.values()))
        return Worth(text, None if complete else penstock.IncompleteStreamError, begun=bool(body))
    if not body:
        return Worth(text, broken, begun=False)
    if fault == "stall" and finished and all(finished.values()):
        # Nothing but silence after every finish_reason: `Timeouts.trailing`.
        return Worth(text, None, begun=True)
    if fault != "stall":
        broken = penstock.StreamInterruptedError
    return Worth(text, broken, begun=True)


def _unframed(head: bytes, body: bytes, fault: Fault) -> tuple[bytes, bool]:
    """The payload, and whether the body ended properly."""
    if b"chunked" in head:
        payload = b""
        while True:
            size, line, rest = body.partition(b"\r\n")
            if not line:
                return payload, False
            length = int(size, 16)
            if length == 0:
                return payload, rest == b"\r\n"
            payload += rest[:length]
            body = rest[length + 2 :]
    if b"content-length: " in head:
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        return body, len(body) == length
    return body, fault == "end"


def cut(data: bytes, n: int, fault: Fault) -> Reply:
    """A server that sends `n` bytes of the response, and then this."""
    return Reply((Send(data[:n]), FAULTS[fault]))


async def read(stream: AsyncIterable[penstock.ChatCompletionChunk], into: Text) -> None:
    """Read to the end, adding to `into` what comes."""
    async for chunk in stream:
        into.add(chunk.to_dict())
