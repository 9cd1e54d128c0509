"""Transports for httpx: connections that close when a response is left, under any client of it.

```python
client = httpx.AsyncClient(transport=AsyncTransport())
```
"""

from __future__ import annotations

try:
    import httpx
except ImportError as error:
    raise ImportError(
        'penstock.compat.httpx needs httpx: python -m pip install "penstock[httpx]"'
    ) from error

from ._bodies import AsyncBody as _AsyncBody
from ._bodies import Body as _Body
from ._transport import AsyncSending, Sending

__all__ = ["AsyncTransport", "Transport"]


class _AsyncBytes(_AsyncBody, httpx.AsyncByteStream):
    pass


class _Bytes(_Body, httpx.SyncByteStream):
    pass


class AsyncTransport(AsyncSending, httpx.AsyncBaseTransport):
    """Sends the requests of `httpx.AsyncClient`, on asyncio and trio."""

    _module = httpx
    _body = _AsyncBytes


class Transport(Sending, httpx.BaseTransport):
    """Sends the requests of `httpx.Client`; the blocking twin of `AsyncTransport`."""

    _module = httpx
    _body = _Bytes
