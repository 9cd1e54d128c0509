"""A request on its way out."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from .._wire.credentials import shown_target
from .._wire.request_head import Fields, RequestHead, plain_request
from . import lazy
from .dial import Dialer
from .pieces import Pieces

__all__ = ["Outgoing", "as_bytes", "as_httpcore"]


class Outgoing(msgspec.Struct, frozen=True):
    """A request, ready to be sent any number of times."""

    head: RequestHead
    body: bytes
    pieces: Pieces | None = None
    """A body that comes in pieces, in place of `body`."""

    @property
    def method(self) -> str:
        """For instance "POST"."""
        return self.head.method

    @property
    def target(self) -> str:
        """Path and query; they may have a credential."""
        return self.head.target

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """All its header lines."""
        return self.head.lines(self.body)

    def signed(self, key: str | None, added: Fields) -> Outgoing:
        """Return the request with its API key and these header lines."""
        return Outgoing(self.head.signed(key, added), self.body, self.pieces)

    def renewed(self, headers: Mapping[bytes, bytes]) -> Outgoing:
        """Return the request with new values of headers, given by their lower-case names."""
        return Outgoing(self.head.renewed(headers), self.body, self.pieces)

    # Crash reporters show the variables of every frame: show no key and no prompt there.
    def __repr__(self) -> str:
        return f"<Outgoing {self.method} {shown_target(self.target)}>"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("method", self.method), ("target", shown_target(self.target))]


def as_bytes(outgoing: Outgoing, dialer: Dialer) -> bytes | None:
    """Return the request as it is sent to the peer of the dialer's connections.

    None if httpcore must write it, because it is not plain or its body comes in pieces.
    """
    if outgoing.pieces is not None:
        return None
    if dialer.forwards:
        return plain_request(outgoing.method, *_for_peer(outgoing, dialer), outgoing.body)
    return outgoing.head.plain(outgoing.body)


def as_httpcore(outgoing: Outgoing, dialer: Dialer) -> lazy.httpcore.Request:
    """Return the request as httpcore takes it, for the peer of the dialer's connections."""
    origin = dialer.origin
    target, headers = _for_peer(outgoing, dialer)
    return lazy.httpcore.Request(
        outgoing.method.encode("ascii"),
        lazy.httpcore.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=target),
        headers=headers,
        content=_Body(outgoing.body) if outgoing.pieces is None else _Elsewhere(),
    )


def _for_peer(outgoing: Outgoing, dialer: Dialer) -> tuple[str, list[tuple[bytes, bytes]]]:
    """Return target and headers."""
    origin, proxy = dialer.origin, dialer.proxy
    if not dialer.forwards or proxy is None:
        return outgoing.target, outgoing.headers
    # A forwarding proxy needs the whole URL (RFC 9112, 3.2.2).
    target = f"{origin.scheme}://{origin.authority}{outgoing.target}"
    return target, [*outgoing.headers, *proxy.authorization]


class _Body:
    """A request's body in one piece.

    httpcore makes an async generator of plain bytes, and a cancelled request leaves that to
    the garbage collector.
    """

    __slots__ = ("_left",)

    def __init__(self, body: bytes) -> None:
        self._left = body

    def __aiter__(self) -> _Body:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        piece, self._left = self._left, b""
        return piece


class _Elsewhere:
    """A body that httpcore has no part in: it goes on to read the response."""

    def __aiter__(self) -> _Elsewhere:
        return self

    async def __anext__(self) -> bytes:
        raise lazy.httpcore.WriteError("the body is written by the gate")
