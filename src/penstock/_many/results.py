"""What a fan-out hands out for an item that is done: its value, or its error.

There is one class for each, `Result` and `ResultEvent`. Type checkers are shown a union of two
in its place: one with a value and no error, one with an error and no value. So they know after
`if result.error is not None: ...` that there is a value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NoReturn, TypeAlias, TypeVar

import msgspec

from ..observing.figures import StreamStatistics
from ..types import ChatCompletion
from .requests import Request

__all__ = ["Result", "ResultEvent"]

T = TypeVar("T")
R = TypeVar("R")


class Result(msgspec.Struct, Generic[T, R], frozen=True):
    """The outcome of one item: the value that its call returned, or the error that it raised."""

    index: int
    """Position of the item in the source, from 0."""
    item: T
    """The item itself, as it came from the source."""
    value: R | None
    """What the call returned; None if it failed."""
    error: Exception | None
    """What the call raised, else None."""
    started: float
    """When the call began, in seconds on the event loop's clock."""
    ended: float
    """When the call ended, on the same clock."""

    def unwrap(self) -> R:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # None only if R includes it


class ResultEvent(msgspec.Struct, frozen=True):
    """The end of one of the requests. Each request has exactly one, after its last chunk."""

    index: int
    """Position of the request in the source, from 0."""
    request: Request
    """The request itself, as it came from the source."""
    completion: ChatCompletion | None
    """The whole completion; None if it failed."""
    error: Exception | None
    """Why it failed, else None; `error.partial` is the answer so far."""
    statistics: StreamStatistics | None
    """The figures of the stream; None if the request was not valid and never sent."""

    def unwrap(self) -> ChatCompletion:
        """Return the completion, or raise the error."""
        if self.error is not None:
            raise self.error
        assert self.completion is not None
        return self.completion


if TYPE_CHECKING:

    class _Result(msgspec.Struct, Generic[T], frozen=True):
        index: int
        item: T
        started: float
        ended: float

    class Success(_Result[T], Generic[T, R], frozen=True):
        value: R
        error: None

        def unwrap(self) -> R: ...

    class Failure(_Result[T], Generic[T, R], frozen=True):
        value: None
        error: Exception

        # R, as a union of R and NoReturn would be shown as such.
        def unwrap(self) -> R: ...

    AnyResult: TypeAlias = Success[T, R] | Failure[T, R]

    class _ResultEvent(msgspec.Struct, frozen=True):
        index: int
        request: Request
        statistics: StreamStatistics | None

    class SuccessEvent(_ResultEvent, frozen=True):
        completion: ChatCompletion
        error: None

        def unwrap(self) -> ChatCompletion: ...

    class FailureEvent(_ResultEvent, frozen=True):
        completion: None
        error: Exception

        def unwrap(self) -> NoReturn: ...

    AnyResultEvent: TypeAlias = SuccessEvent | FailureEvent
