"""Every error of the library, in one tree. Decide by the class of an error.

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
    ├─ APIConnectionError             the server was not reached, or the connection failed
    │  ├─ APITimeoutError             (also a TimeoutError)
    │  │  ├─ ConnectTimeout  SlotTimeout  ReadTimeout
    │  │  └─ FirstTokenTimeout  IdleTimeout  TotalTimeout
    │  └─ StreamInterruptedError      the connection failed after the body had begun
    │     └─ IncompleteStreamError    the body ended properly, but the answer did not
    ├─ StreamError                    the server reported an error inside a 200 response
    ├─ APIResponseError               the response cannot be understood
    ├─ StructuredOutputError          the answer is not a value of the requested type
    ├─ ToolArgumentsError             (also a ValueError) a tool call has invalid arguments
    ├─ AllAttemptsFailed              every attempt of a race failed
    └─ StreamClosedError, StreamBusyError    misuse: read after close, two readers at once

Every error can be pickled and deep-copied, holds no live connection and never shows the API key.
An error raised after the first byte of a streamed answer has the answer so far as `partial`.
Cancellation is never turned into one of these errors.
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
    """Base class of all errors of this library. `str(error)` is one line for a person."""

    partial: ChatCompletion | None = None
    """The answer so far, if a streamed body had begun; otherwise None."""
    request_id: str | None = None
    """The server's id of the request, from `x-request-id` or a similar header, or None."""

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
        """The answer so far, if the error came after the first byte; else None."""
        self.request_id = request_id
        """The server's id of the request, or None."""


class APIStatusError(PenstockError):
    """The server answered with a status other than 2xx."""

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
        """The HTTP status of the response, for instance 429."""
        self.body = body
        """The body of the response: parsed if it is JSON, otherwise its text."""
        self.code = code
        """The error's code in the body, for instance "model_not_found", or None."""
        self.type = type
        """The error's type in the body, for instance "invalid_request_error", or None."""
        self.param = param
        """The parameter of the request that the error is about, or None."""
        self.headers: Headers = Headers() if headers is None else headers
        """The headers of the response."""
        self.retry_after = retry_after
        """Seconds to wait before the next request, as the server asked, or None."""


class BadRequestError(APIStatusError):
    """400: the request is malformed or has an invalid value."""


class AuthenticationError(APIStatusError):
    """401: the API key is missing or wrong."""


class InsufficientCreditsError(APIStatusError):
    """402: the account has no credits left. Never retried."""


class PermissionDeniedError(APIStatusError):
    """403: the API key lacks a permission."""


class NotFoundError(APIStatusError):
    """404: the model or the path does not exist."""


class ConflictError(APIStatusError):
    """409: the request conflicts with the state of the server."""


class UnprocessableEntityError(APIStatusError):
    """422: the request is well formed, but the server rejects its values."""


class RateLimitError(APIStatusError):
    """429: too many requests, or a used-up quota (`code` is then "insufficient_quota")."""


class InternalServerError(APIStatusError):
    """500 and above: the server failed."""


class EndpointNotReadyError(InternalServerError):
    """503: the server, or the endpoint of the model, is stopped, starting or overloaded."""


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
    """Return the error class for this HTTP status."""
    if status_code >= 500:
        return _STATUS_CLASSES.get(status_code, InternalServerError)
    return _STATUS_CLASSES.get(status_code, APIStatusError)


class APIConnectionError(PenstockError):
    """The server was not reached, or the connection failed before the answer began."""


class APITimeoutError(APIConnectionError, TimeoutError):
    """A limit of `Timeouts` was exceeded. The subclass says which one."""


class ConnectTimeout(APITimeoutError):
    """`Timeouts.connect`: no connection was established in time."""


class SlotTimeout(APITimeoutError):
    """`Timeouts.slot`: the limiter had no free slot in time."""


class ReadTimeout(APITimeoutError):
    """`Timeouts.read`: no byte arrived in time."""


class FirstTokenTimeout(APITimeoutError):
    """`Timeouts.first_token`: the first token did not arrive in time."""


class IdleTimeout(APITimeoutError):
    """`Timeouts.idle`: the next token did not arrive in time."""


class TotalTimeout(APITimeoutError):
    """`Timeouts.total`: the whole call took too long."""


class StreamInterruptedError(APIConnectionError):
    """The connection failed after the body had begun. The request is not sent again."""

    if TYPE_CHECKING:
        # None only where the answer is not a completion: in events and bytes of any endpoint.
        partial: ChatCompletion  # pyright: ignore[reportIncompatibleVariableOverride]


class IncompleteStreamError(StreamInterruptedError):
    """The body ended properly, but without `[DONE]` and a finish_reason for every choice."""


class StreamError(PenstockError):
    """The server reported an error inside a response with a 2xx status."""

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
        """The error's code, for instance "server_error", or None."""
        self.type = type
        """The error's type, for instance "overloaded_error", or None."""
        self.param = param
        """The parameter of the request that the error is about, or None."""
        self.status_code = status_code
        """The HTTP status that the error itself names (400 to 599), or None."""
        self.body = body
        """The error as the server sent it: parsed if it is JSON, otherwise its text."""


class APIResponseError(PenstockError):
    """The response cannot be understood: not an event stream, bad JSON, or above a bound."""

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
        """The beginning of the body (up to 4096 characters), or None."""
        self.status_code = status_code
        """The HTTP status of the response, or None where it is unknown."""
        self.headers: Headers = Headers() if headers is None else headers
        """The headers of the response; empty where they are unknown."""


StructuredOutputReason: TypeAlias = Literal[
    "length", "refusal", "content_filter", "empty", "invalid"
]
"""Why an answer has no value; see `StructuredOutputError.reason`."""


class StructuredOutputError(PenstockError):
    """An answer came, but it is not a value of the requested type."""

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
        """Why: "length" (cut by the token limit), "refusal" (the model refused),
        "content_filter" (the server stopped it), "empty" (no content) or "invalid" (the
        content does not fit the type)."""

    if TYPE_CHECKING:
        # Always given by the library.
        partial: ChatCompletion  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def completion(self) -> ChatCompletion:
        """The whole answer with all its choices; the same as `partial`."""
        return self.partial


class ToolArgumentsError(PenstockError, ValueError):
    """The model's arguments for a tool are not JSON, or do not fit its parameters.

    `messages.append(error.tool_message)` tells the model, which can then correct them.
    """

    def __init__(self, message: str = "", *, call: ToolCall | None = None) -> None:
        super().__init__(message)
        self.call = call
        """The tool call as it came, or None."""

    @property
    def tool_message(self) -> dict[str, Any]:
        """A message for the model that answers its call and says what is wrong."""
        return {"role": "tool", **reply_to(self.call), "content": f"Error: {self}"}


def reply_to(call: ToolCall | None) -> dict[str, str]:
    """Return the members that make a tool's message the answer to this call."""
    if call is None:
        return {}
    # Servers that give no ids match by name.
    return {"name": call.function.name} if call.id is None else {"tool_call_id": call.id}


class AllAttemptsFailed(PenstockError):
    """Every attempt of a race failed."""

    def __init__(self, message: str = "", *, errors: Sequence[Exception] = ()) -> None:
        super().__init__(message)
        self.errors: list[Exception] = list(errors)
        """The error of each attempt, in the order in which the attempts were started."""


class StreamClosedError(PenstockError):
    """The stream was read after it was closed, or closed while it was being read."""


class StreamBusyError(PenstockError):
    """Two tasks read one stream at the same time."""
