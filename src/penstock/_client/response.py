"""A raw response, as `client.request()` returns it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from .._wire.stream_error import body_excerpt
from ..errors import APIResponseError, PenstockError
from ..headers import Headers, request_id
from ..types import decode_json

__all__ = ["Redact", "Response"]


E = TypeVar("E", bound=PenstockError)

Redact = Callable[[PenstockError], PenstockError]
"""Masks in an error what is secret in the request that led to it."""


class Response:
    """A raw response of `client.request()`."""

    __slots__ = ("_redact", "content", "headers", "status_code")

    def __init__(
        self,
        status_code: int,
        headers: Headers,
        content: bytes,
        redact: Redact = lambda error: error,
    ) -> None:
        self.status_code: int = status_code
        """The HTTP status, 200 to 299."""
        self.headers: Headers = headers
        """The response's headers."""
        self.content: bytes = content
        """The body, its content coding removed."""
        self._redact = redact

    @property
    def request_id(self) -> str | None:
        """The server's id of the request, when it gave one."""
        return request_id(self.headers)

    def json(self) -> Any:
        """The body parsed as JSON; APIResponseError when it is none."""
        try:
            return decode_json(self.content)
        except ValueError as error:
            raised = APIResponseError(
                f"the response is not JSON: {error}",
                body=body_excerpt(self.content),
                status_code=self.status_code,
                headers=self.headers,
                request_id=self.request_id,
            )
            raised.__cause__ = error
            raise self._redact(raised) from error

    def masked(self, error: E) -> E:
        """Return an error about this response, with the secrets of its request masked."""
        self._redact(error)
        return error

    def __reduce__(self) -> tuple[type[Response], tuple[int, Headers, bytes]]:
        # Without what knows the key.
        return Response, (self.status_code, self.headers, self.content)

    def __repr__(self) -> str:
        return f"<Response {self.status_code}, {len(self.content)} bytes>"
