"""A connection to an origin through a proxy: CONNECT, or SOCKS."""

from __future__ import annotations

from typing import Any, cast

from .._wire.excerpt import one_line
from .._wire.url import Origin
from . import lazy
from .head_gate import HeadGate, HeadTooLarge
from .network import ConnectionFailed, Deadline, NetworkStream
from .proxy import Proxy
from .socks import connect_socks5

__all__ = ["tunnel"]


async def tunnel(
    stream: NetworkStream, proxy: Proxy, origin: Origin, deadline: Deadline
) -> NetworkStream:
    """Let the proxy connect `stream` to the origin; return the stream that leads there."""
    if proxy.is_socks:
        await connect_socks5(stream, proxy, origin, deadline)
        return stream
    gate = HeadGate(stream, deadline)
    target = origin.host_and_port.encode("ascii")
    request = lazy.httpcore.Request(
        b"CONNECT",
        lazy.httpcore.URL(scheme=proxy.scheme, host=proxy.host, port=proxy.port, target=target),
        headers=[(b"Host", target), *proxy.authorization],
    )
    try:
        response = await gate.answer(request)
    except HeadTooLarge:
        raise ConnectionFailed("the head of the proxy's response is too large") from None
    except lazy.httpcore.ProtocolError as error:
        if gate.ended:
            raise ConnectionFailed("the proxy closed the connection") from error
        raise ConnectionFailed(
            f"the proxy's response is not understood: {one_line(str(error))}"
        ) from error
    if not 200 <= response.status < 300:
        extensions = cast("Any", response).extensions
        reason = one_line(extensions.get("reason_phrase", b"").decode("latin-1"))
        # Another attempt cannot change a 4xx: wrong credentials, or a refused target.
        raise ConnectionFailed(
            f"the proxy refused to connect: {response.status} {reason}".rstrip(),
            permanent=response.status < 500,
        )
    if gate.rest:
        raise ConnectionFailed("the proxy sent bytes before the tunnel was in use")
    return stream
