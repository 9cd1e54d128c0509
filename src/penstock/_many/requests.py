"""Requests as fan-outs and races take them, and the one place that opens a stream for one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from .._call.stream import CompletionStream

__all__ = ["HasCompletions", "Request", "check_client", "open_stream"]


Request = Mapping[str, Any]
"""The keyword arguments of `create()`: {"model": ..., "messages": [...], ...}.

With a `prompt` in place of `messages` it is a request for a text completion.
"""


class _Streams(Protocol):
    @property
    def stream(self) -> Callable[..., CompletionStream]: ...


class _Chat(Protocol):
    @property
    def completions(self) -> _Streams: ...


class HasCompletions(Protocol):
    """A client, or any object with the same `chat.completions.stream`."""

    @property
    def chat(self) -> _Chat: ...


def check_client(client: object) -> None:
    """Raise TypeError if `client` cannot open a stream."""
    chat = getattr(client, "chat", None)
    if not callable(getattr(getattr(chat, "completions", None), "stream", None)):
        raise TypeError(f"client must be a penstock.AsyncClient, not {type(client).__name__}")


def open_stream(client: HasCompletions, request: Request) -> CompletionStream:
    """Return the stream of one request, which has sent nothing yet.

    A request with a `prompt` and no `messages` is a text completion: its stream has the same
    methods, and yields `TextCompletion` pieces. Raises ValueError or TypeError if the request is
    not valid.
    """
    if "prompt" in request and "messages" not in request:
        texts: Any = client  # a request for text needs a client that has them
        stream: CompletionStream = texts.completions.stream(**request)
        return stream
    return client.chat.completions.stream(**request)
