"""A request of httpx as a call of penstock. Plain functions, without any I/O."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from .._call.call import Call
from .._http.outgoing import Outgoing
from .._http.pieces import Pieces, Run
from .._wire.request_head import RequestHead
from .._wire.url import Origin, is_host
from ..timeouts import Timeouts
from ._plan import Plan

__all__ = ["call_of", "origin_of", "pieces_of"]

_PORTS = {"http": 80, "https": 443}


def origin_of(module: Any, request: Any) -> Origin:
    """Return the server that the request goes to; UnsupportedProtocol if it is none of ours."""
    url = request.url
    scheme, host = url.scheme, url.raw_host.decode("ascii")
    if scheme not in _PORTS:
        raise module.UnsupportedProtocol(
            f"the URL has the scheme {scheme!r}: it must be http or https"
            if scheme
            else "the URL has no scheme: it must begin with http:// or https://"
        )
    if not host or not is_host(host):
        raise module.UnsupportedProtocol("the URL has no valid host")
    return Origin(scheme, host, url.port or _PORTS[scheme])


def call_of(
    request: Any,
    body: bytes | Pieces,
    timeouts: Timeouts | None,
    plan: Plan | None,
    *,
    check_end: bool = True,
) -> Call:
    """Return the call for a request with this body."""
    if plan is not None and plan.timeouts is not None:
        limits, write = plan.timeouts, None
    else:
        asked: dict[str, Any] = request.extensions.get("timeout") or {}
        limits = _limits(timeouts, asked.get("connect"), asked.get("read"), asked.get("pool"))
        write = asked.get("write")
    planned = plan is not None
    return Call(
        outgoing=Outgoing(
            RequestHead(request.method, request.url.raw_path.decode("ascii"), request.headers.raw),
            b"" if isinstance(body, Pieces) else body,
            body if isinstance(body, Pieces) else None,
        ),
        timeouts=limits,
        write_timeout=write,
        max_retries=plan.max_retries if plan is not None else 0,
        streaming=plan is None or plan.stream,
        model=plan.model if plan is not None else None,
        choices=plan.choices if plan is not None else 1,
        any_status=not planned,
        encoded=not planned,
        check_end=check_end and not planned,
        renew=plan.renew if plan is not None else None,
        quiet=True,
    )


def pieces_of(request: Any, source: Any, run: Run | None = None) -> Pieces:
    """Return the body that `source` iterates over; it is sent as the request's headers say."""
    length = request.headers.get("content-length")
    if "transfer-encoding" in request.headers:
        return Pieces(source, once=True, run=run)
    return Pieces(source, length=int(length or 0), once=True, run=run)


@lru_cache(maxsize=64)
def _limits(
    timeouts: Timeouts | None, connect: float | None, read: float | None, pool: float | None
) -> Timeouts:
    """Return the stricter limits of the transport's and the request's own."""
    given = Timeouts(connect=None, read=None) if timeouts is None else timeouts
    return Timeouts(
        connect=_stricter(given.connect, connect),
        slot=_stricter(given.slot, pool),
        read=_stricter(given.read, read),
        first_token=given.first_token,
        idle=given.idle,
        total=given.total,
        trailing=given.trailing,
        close=given.close,
    )


def _stricter(ours: float | None, theirs: float | None) -> float | None:
    if ours is None or theirs is None:
        return theirs if ours is None else ours
    return min(ours, theirs)
