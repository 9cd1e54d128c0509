"""What a fan-out or race is given: requests, and a client to make them on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from .._call.stream import CompletionStream

__all__ = ["HasCompletions", "Request"]


Request = Mapping[str, Any]


class _Streams(Protocol):
    @property
    def stream(self) -> Callable[..., CompletionStream]: ...


class _Chat(Protocol):
    @property
    def completions(self) -> _Streams: ...


class HasCompletions(Protocol):
    """What a client has to have."""

    @property
    def chat(self) -> _Chat: ...
