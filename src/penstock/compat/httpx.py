"""Transports for httpx: connections that close when a response is left, under any client of it.

```python
client = httpx.AsyncClient(transport=AsyncTransport())
```
"""

from __future__ import annotations

try:
    import httpx  # noqa: ASYNC127 - its users have httpx
except ImportError as _error:
    raise ImportError(
        'penstock.compat.httpx needs httpx: python -m pip install "penstock[httpx]"'
    ) from _error

from ._bodies import AsyncBody as _AsyncBody
from ._bodies import Body as _Body
from ._transport import AsyncSending, Sending

__all__ = ["AsyncTransport", "Transport"]


class _AsyncBytes(_AsyncBody, httpx.AsyncByteStream):
    pass


class _Bytes(_Body, httpx.SyncByteStream):
    pass


class AsyncTransport(AsyncSending, httpx.AsyncBaseTransport):
    """Sends the requests of `httpx.AsyncClient`, on asyncio and trio.

        client = httpx.AsyncClient(transport=AsyncTransport())

    Leaving a response, for whatever reason, closes its connection at once, unless it was read to
    its end. Connections belong to the event loop that made them; one transport works in several,
    one after another and at once. Nothing is sent again, except that a kept connection that
    turns out to be dead is replaced. Making it does no I/O and needs no event loop.

    - `timeouts`: deadlines of each request; where the request's own timeout (of httpx) is
      stricter, that holds. Without them only the latter counts: `connect`, `read`, `write`, and
      `pool` for the wait for a slot.
    - `limiter`: shared limit on requests in flight. A response holds its slot until it is read
      to its end or closed; a 429 or 503 pauses all others. It is used in one event loop at a
      time.
    - `observer`: receives events; see `penstock.observing`.
    - `proxy`: URL of an http, https or socks5 proxy. None reads HTTPS_PROXY, HTTP_PROXY,
      ALL_PROXY and NO_PROXY; "" uses no proxy.
    - `ssl_context`: replaces the one that verifies against certifi's authorities.
    - `uds`: path of a Unix socket to connect to instead of the host.
    - `network`: an httpcore network backend instead of real sockets.
    - `check_streams`: whether an event stream of a chat, text completion, Response or Message
      (`POST .../chat/completions`, `/completions`, `/responses`, `/messages`) that ends without
      its end is an error. Its bytes are not changed.

    Errors are those of httpx; `__cause__` is penstock's. A cut stream is a RemoteProtocolError
    from an IncompleteStreamError. RuntimeError for requests after `aclose()`. ValueError or
    TypeError for invalid arguments.
    """

    _module = httpx
    _body = _AsyncBytes


class Transport(Sending, httpx.BaseTransport):
    """Sends the requests of `httpx.Client`; the blocking twin of `AsyncTransport`.

        client = httpx.Client(transport=Transport())

    Arguments and rules as of `AsyncTransport`. Any number of threads may use it, also inside a
    running event loop. Ctrl-C ends a wait at once and closes its connection. All blocking
    transports and clients of a process share one event loop, in a thread of its own, and may
    share a limiter. A body that is an iterable is iterated in a worker thread.
    """

    _module = httpx
    _body = _Bytes
