"""What the library logs. Nothing here has a body, a key, or a server's words.

| logger                | level   | message                                                       |
| --------------------- | ------- | ------------------------------------------------------------- |
| `penstock.retry`      | INFO    | an attempt failed, the request is sent again: reason and wait |
| `penstock.stream`     | WARNING | an answer broke off after its first byte                      |
| `penstock.request`    | DEBUG   | a request began, was answered, has ended                      |
| `penstock.connection` | DEBUG   | an attempt has a connection, a new or a reused one            |
| `penstock.limiter`    | WARNING | a server asks for a longer pause than `max_retry_wait`        |
| `penstock.batch`      | WARNING | a batch waits for a server that does not answer               |
| `penstock.observer`   | ERROR   | an observer raised                                            |

Each record has the figures of its message as attributes, too (`extra`), for formatters that write
JSON. The environment variable PENSTOCK_LOG (debug, info, warning, error) has them written to
standard error, for a quick look.
"""

from __future__ import annotations

from collections.abc import Callable

from .._logs import DEBUG, logger
from .._wire.credentials import shown_target
from .call import Call, Service

__all__ = ["answered", "began", "broke_off", "connected", "ended", "retrying"]


def began(call: Call, service: Service) -> None:
    """A request is about to be sent for the first time."""
    if logger("request").isEnabledFor(DEBUG):
        host = service.connections.dialer.origin.host_and_port
        path = shown_target(call.outgoing.target)
        logger("request").debug(
            "%s %s to %s began",
            call.outgoing.method,
            path,
            host,
            extra={"method": call.outgoing.method, "path": path, "host": host, "model": call.model},
        )


def connected(service: Service, attempt: int, *, reused: bool, seconds: float) -> None:
    """An attempt has a connection."""
    if logger("connection").isEnabledFor(DEBUG):
        host = service.connections.dialer.origin.host_and_port
        logger("connection").debug(
            "%s connection to %s after %.3f s",
            "reused" if reused else "new",
            host,
            seconds,
            extra={"host": host, "attempt": attempt, "reused": reused, "seconds": seconds},
        )


def answered(call: Call, attempt: int, status_code: int, seconds: float) -> None:
    """The head of a success response is in."""
    if logger("request").isEnabledFor(DEBUG):
        logger("request").debug(
            "attempt %d answered with %d after %.3f s",
            attempt,
            status_code,
            seconds,
            extra={
                "attempt": attempt,
                "status_code": status_code,
                "seconds": seconds,
                "model": call.model,
            },
        )


def retrying(call: Call, service: Service, attempt: int, error: Exception, wait: float) -> None:
    """An attempt failed, and the request is sent again."""
    reason = type(error).__name__
    host = service.connections.dialer.origin.host_and_port
    logger("retry").info(
        "attempt %d at %s failed (%s); sending again in %.2f s",
        attempt,
        host,
        reason,
        wait,
        extra={
            "attempt": attempt,
            "reason": reason,
            "status_code": getattr(error, "status_code", None),
            "wait": wait,
            "host": host,
            "model": call.model,
        },
    )


def broke_off(
    call: Call, service: Service, error: Exception, *, seconds: float, received: int
) -> None:
    """An answer failed after its first byte."""
    reason = type(error).__name__
    host = service.connections.dialer.origin.host_and_port
    logger("stream").warning(
        "the answer of %s broke off after %.3f s and %d bytes (%s)",
        host,
        seconds,
        received,
        reason,
        extra={
            "reason": reason,
            "seconds": seconds,
            "bytes": received,
            "host": host,
            "model": call.model,
        },
    )


def ended(call: Call, outcome: str, attempts: int, so_far: Callable[[], tuple[float, int]]) -> None:
    """A request is over; `so_far` returns its seconds and the bytes received."""
    if logger("request").isEnabledFor(DEBUG):
        seconds, received = so_far()
        logger("request").debug(
            "%s after %.3f s, %d attempts and %d bytes",
            outcome,
            seconds,
            attempts,
            received,
            extra={
                "outcome": outcome,
                "attempts": attempts,
                "seconds": seconds,
                "bytes": received,
                "model": call.model,
            },
        )
