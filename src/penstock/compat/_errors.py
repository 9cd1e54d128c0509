"""Errors of penstock as those of httpx."""

from __future__ import annotations

from typing import Any

from .._http.network import ConnectionFailed
from .._policy.deadlines import WriteStalled
from ..errors import (
    APIConnectionError,
    APIResponseError,
    APITimeoutError,
    ConnectTimeout,
    IncompleteStreamError,
    PenstockError,
    SlotTimeout,
    StreamClosedError,
)

__all__ = ["httpx_error"]


def httpx_error(module: Any, error: PenstockError, *, connected: bool) -> Exception:
    """Return the error of `module`, one of the httpx generations, for an error of a request.

    `connected`: whether a connection had been made. The caller raises it from `error`.
    """
    return _kind(module, error, connected=connected)(str(error))  # type: ignore[no-any-return]


def _kind(module: Any, error: PenstockError, *, connected: bool) -> Any:
    if isinstance(error, APITimeoutError):
        if isinstance(error, SlotTimeout):
            return module.PoolTimeout
        if isinstance(error, ConnectTimeout) or not connected:
            return module.ConnectTimeout
        return module.WriteTimeout if isinstance(error, WriteStalled) else module.ReadTimeout
    if isinstance(error, (IncompleteStreamError, APIResponseError)):
        return module.RemoteProtocolError
    if isinstance(error, StreamClosedError):
        return module.ReadError
    if isinstance(error, APIConnectionError):
        if not connected:
            return module.ConnectError
        below = error.__cause__
        ended = isinstance(below, ConnectionFailed) and below.ended
        return module.RemoteProtocolError if ended else module.ReadError
    return module.TransportError
