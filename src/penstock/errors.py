"""Every error of the library, one tree. The class is what a caller decides on.

    PenstockError
    ├─ APIStatusError                 the server answered with an error status
    │  ├─ BadRequestError             400
    │  ├─ AuthenticationError         401
    │  ├─ InsufficientCreditsError    402
    │  ├─ PermissionDeniedError       403
    │  ├─ NotFoundError               404
    │  ├─ ConflictError               409
    │  ├─ UnprocessableEntityError    422
    │  ├─ RateLimitError              429
    │  └─ InternalServerError         500 and above
    │     └─ EndpointNotReadyError    503
    ├─ APIConnectionError             could not reach the server, or the connection failed
    │  ├─ APITimeoutError             (also a TimeoutError)
    │  │  ├─ ConnectTimeout  SlotTimeout  ReadTimeout
    │  │  └─ FirstTokenTimeout  IdleTimeout  TotalTimeout
    │  └─ StreamInterruptedError      the body had begun, then the connection failed
    │     └─ IncompleteStreamError    the body ended politely, but not the answer
    ├─ StreamError                    the server reported an error inside a 200 response
    ├─ APIResponseError               a response that cannot be understood
    ├─ StructuredOutputError          an answer that is no value of the type asked for
    ├─ ToolArgumentsError             (also a ValueError) a tool call with bad arguments
    ├─ AllAttemptsFailed              race: every attempt failed
    └─ StreamClosedError, StreamBusyError    misuse: read after close, two readers at once

All of them pickle and deep-copy, hold no live connection and never show the API key.
Whatever is raised after the first byte of a streamed answer carries that answer as far
as it came in `partial`. Cancellation is never turned into one of these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .headers import Headers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .types import ChatCompletion, ToolCall

__all__ = [
    "APIConnectionError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "AllAttemptsFailed",
    "AuthenticationError",
    "BadRequestError",
    "ConflictError",
    "ConnectTimeout",
    "EndpointNotReadyError",
    "FirstTokenTimeout",
    "IdleTimeout",
    "IncompleteStreamError",
    "InsufficientCreditsError",
    "InternalServerError",
    "NotFoundError",
    "PenstockError",
    "PermissionDeniedError",
    "RateLimitError",
    "ReadTimeout",
    "SlotTimeout",
    "StreamBusyError",
    "StreamClosedError",
    "StreamError",
    "StreamInterruptedError",
    "StructuredOutputError",
    "ToolArgumentsError",
    "TotalTimeout",
    "UnprocessableEntityError",
    "status_error_class",
]


class PenstockError(Exception):
    """Base of all errors of this library; `str()` of it is one line for a person."""

    partial: ChatCompletion | None = None
    """The answer as far as it had come, when a streamed body had begun; else None."""
    request_id: str | None = None
    """The server's id of the request (`x-request-id`), when it gave one."""

    def __init__(
        self,
        message: str = "",
        *,
        partial: ChatCompletion | None = None,
        request_id: str | None = None,
    ) -> None:
        # Only the message goes into args: with every other argument optional, the
        # default pickling (class, args, __dict__) restores the whole error.
        super().__init__(message)
        self.partial = partial
        self.request_id = request_id


class APIStatusError(PenstockError):
    """The server answered with a status that is no success."""

    def __init__(
        self,
        message: str = "",
        *,
        status_code: int = 0,
        body: Any = None,
        code: str | int | None = None,
        type: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
        headers: Headers | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.status_code = status_code
        self.body = body
        """The error body: parsed where it was JSON, else its text."""
        self.code = code
        self.type = type
        self.param = param
        self.headers: Headers = Headers() if headers is None else headers
        self.retry_after = retry_after
        """Seconds the server asked to wait before the next request, or None."""


class BadRequestError(APIStatusError):
    """400: the request is malformed."""


class AuthenticationError(APIStatusError):
    """401: the key is missing or wrong."""


class InsufficientCreditsError(APIStatusError):
    """402: the account's credits are used up; never retried."""


class PermissionDeniedError(APIStatusError):
    """403: the key may not do this."""


class NotFoundError(APIStatusError):
    """404: no such model or path."""


class ConflictError(APIStatusError):
    """409: the request conflicts with the state of the server."""


class UnprocessableEntityError(APIStatusError):
    """422: the request is well formed, but its values are not accepted."""


class RateLimitError(APIStatusError):
    """429: too many requests, or a quota is used up (then `code` is insufficient_quota)."""


class InternalServerError(APIStatusError):
    """500 and above: the server failed."""


class EndpointNotReadyError(InternalServerError):
    """503: the server or the model's endpoint is stopped, cold or overloaded."""


_STATUS_CLASSES: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: InsufficientCreditsError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableEntityError,
    429: RateLimitError,
    503: EndpointNotReadyError,
}


def status_error_class(status_code: int) -> type[APIStatusError]:
    """The class that stands for this HTTP status."""
    if status_code >= 500:
        return _STATUS_CLASSES.get(status_code, InternalServerError)
    return _STATUS_CLASSES.get(status_code, APIStatusError)


class APIConnectionError(PenstockError):
    """The server could not be reached, or the connection failed before the answer began."""


class APITimeoutError(APIConnectionError, TimeoutError):
    """A limit of `Timeouts` was reached."""


class ConnectTimeout(APITimeoutError):
    """`Timeouts.connect`: the connection did not come about in time."""


class SlotTimeout(APITimeoutError):
    """`Timeouts.slot`: the limiter had no free slot in time."""


class ReadTimeout(APITimeoutError):
    """`Timeouts.read`: the wire was silent for too long."""


class FirstTokenTimeout(APITimeoutError):
    """`Timeouts.first_token`: no token came in time."""


class IdleTimeout(APITimeoutError):
    """`Timeouts.idle`: tokens had come, then none for too long."""


class TotalTimeout(APITimeoutError):
    """`Timeouts.total`: the whole took too long."""


class StreamInterruptedError(APIConnectionError):
    """The body had begun, then the connection failed. It is never resumed or sent again."""


class IncompleteStreamError(StreamInterruptedError):
    """The body ended politely, without `[DONE]` and without a finish_reason for every choice."""


class StreamError(PenstockError):
    """The server reported an error inside a response with a success status."""

    def __init__(
        self,
        message: str = "",
        *,
        code: str | int | None = None,
        type: str | None = None,
        param: str | None = None,
        status_code: int | None = None,
        body: Any = None,
        partial: ChatCompletion | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, partial=partial, request_id=request_id)
        self.code = code
        self.type = type
        self.param = param
        self.status_code = status_code
        """The HTTP status the error names for itself, if it names one."""
        self.body = body
        """The error's payload as the server sent it, parsed where it was JSON."""


class APIResponseError(PenstockError):
    """A response that cannot be understood: no event stream, bad JSON, something over a bound."""

    def __init__(
        self,
        message: str = "",
        *,
        body: str | None = None,
        status_code: int | None = None,
        headers: Headers | None = None,
        partial: ChatCompletion | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, partial=partial, request_id=request_id)
        self.body = body
        """An excerpt of what came instead."""
        self.status_code = status_code
        self.headers: Headers = Headers() if headers is None else headers


StructuredOutputReason: TypeAlias = Literal[
    "length", "refusal", "content_filter", "empty", "invalid"
]


class StructuredOutputError(PenstockError):
    """The answer came, but it is no value of the type that was asked for.

    `reason` says why: "length" (cut by the token limit), "refusal" (the model refused),
    "content_filter" (the server stopped it), "empty" (no content), "invalid" (content that
    is not valid for the type). The answer that was paid for is in `completion`.
    """

    def __init__(
        self,
        message: str = "",
        *,
        reason: StructuredOutputReason = "invalid",
        completion: ChatCompletion | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, partial=completion, request_id=request_id)
        self.reason: StructuredOutputReason = reason

    @property
    def completion(self) -> ChatCompletion | None:
        """The answer as it came, all its choices; the same as `partial`."""
        return self.partial


class ToolArgumentsError(PenstockError, ValueError):
    """The arguments that the model gave for a tool are no JSON, or not valid for it.

    `messages.append(error.tool_message)` tells the model, which then usually mends them.
    """

    def __init__(self, message: str = "", *, call: ToolCall | None = None) -> None:
        super().__init__(message)
        self.call = call
        """The call as it came."""

    @property
    def tool_message(self) -> dict[str, Any]:
        """A message for the model, in answer to its call, that says what is wrong."""
        return {"role": "tool", **reply_to(self.call), "content": f"Error: {self}"}


def reply_to(call: ToolCall | None) -> dict[str, str]:
    """The members that make a tool's message the answer to this call."""
    if call is None:
        return {}
    # Servers that give no ids go by the name.
    return {"name": call.function.name} if call.id is None else {"tool_call_id": call.id}


class AllAttemptsFailed(PenstockError):
    """Every attempt of a race failed; `errors` has them in the order they were started."""

    def __init__(self, message: str = "", *, errors: Sequence[Exception] = ()) -> None:
        super().__init__(message)
        self.errors: list[Exception] = list(errors)


class StreamClosedError(PenstockError):
    """The stream was read after it was closed, or closed while it was being read."""


class StreamBusyError(PenstockError):
    """Two tasks read one stream at the same time."""
