"""Recorded streams of other endpoints, and what each prefix of one is worth.

As in recorded.py, the oracle shares no code with the library.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from typing import Any

import penstock
from penstock import AsyncClient

from .recorded import Fault, _unframed, response

Item = tuple[str, bytes]
"""An event's name and data, or the index and text of a text completion's choice."""


@dataclass(frozen=True)
class Source:
    """A recording, and how it is read."""

    data: bytes
    done: Collection[str]
    """Names of the events that end it properly."""
    open: Callable[[AsyncClient], Any]
    """Makes its stream."""
    text: bool = False
    """Whether it is a text completion."""


def _events(name: str, path: str, *done: str) -> Source:
    return Source(
        response(name), done, lambda client: client.events(path, json={"stream": True}, done=done)
    )


SOURCES: dict[str, Source] = {
    "responses": _events("responses", "/responses", "response.completed"),
    "messages": _events("messages", "/messages", "message_stop"),
    "llamacpp": _events("llamacpp_completion", "/completion"),
    "llamacpp-text": _events("llamacpp_text", "/completions", "never"),
    "text": Source(
        response("llamacpp_text"),
        (),
        lambda client: client.completions.stream(model="m", prompt=["Once upon", "The sky is"]),
        text=True,
    ),
}


def items_of(source: Source, each: Any) -> list[Item]:
    """What one thing that was read says."""
    if source.text:
        return [(str(choice["index"]), choice["text"].encode()) for choice in each["choices"]]
    return [(each.event, each.data)]


async def read(source: Source, stream: AsyncIterator[Any], into: list[Item]) -> None:
    """Read to the end, adding to `into` what comes."""
    async for each in stream:
        into += items_of(source, each)


@dataclass
class Worth:
    """What a reader gets of a prefix: these, then the end (None) or exactly this error."""

    items: list[Item]
    error: type[penstock.PenstockError] | None


def worth(source: Source, n: int, fault: Fault, timeout: type[penstock.APITimeoutError]) -> Worth:
    """What the first `n` bytes of this response are worth when `fault` follows."""
    head, _, _ = source.data.partition(b"\r\n\r\n")
    body = source.data[len(head) + 4 : max(n, len(head) + 4)]
    broken = timeout if fault == "stall" else penstock.APIConnectionError
    if n < len(head) + 4:
        return Worth([], broken)
    payload, ended = _unframed(head.lower(), body, fault)
    *blocks, rest = payload.split(b"\n\n")
    items: list[Item] = []
    finished: dict[str, bool] = {}
    for block in blocks:
        if not block.strip():
            continue
        name, _, said = block.strip().rpartition(b"data: ")
        if said == b"[DONE]":
            return Worth(items, None)
        if source.text:
            for index, text, reason in _choices(said):
                items.append((index, text))
                finished[index] = finished.get(index, False) or reason
            continue
        event = name.strip().removeprefix(b"event: ").decode() or "message"
        items.append((event, said))
        if event in source.done:
            return Worth(items, None)
    if ended:
        complete = rest.strip() == b"data: [DONE]" or (
            bool(finished) and all(finished.values()) if source.text else not source.done
        )
        return Worth(items, None if complete else penstock.IncompleteStreamError)
    if source.text and fault == "stall" and list(finished.values()) == [True, True]:
        return Worth(items, None)  # the grace
    if fault != "stall" and body:
        broken = penstock.StreamInterruptedError
    return Worth(items, broken)


def _choices(said: bytes) -> list[tuple[str, bytes, bool]]:
    chunk = json.loads(said)
    return [
        (str(choice["index"]), choice["text"].encode(), bool(choice["finish_reason"]))
        for choice in (chunk or {"choices": []})["choices"]
    ]
