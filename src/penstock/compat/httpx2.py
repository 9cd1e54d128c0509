"""Transports for httpx2: connections that close when a response is left, under any client of it.

```python
client = httpx2.AsyncClient(transport=AsyncTransport())
```
"""

from __future__ import annotations

try:
    import httpx2
except ImportError as error:
    raise ImportError(
        'penstock.compat.httpx2 needs httpx2: python -m pip install "penstock[httpx2]"'
    ) from error

from ._bodies import AsyncBody as _AsyncBody
from ._bodies import Body as _Body
from ._transport import AsyncSending, Sending

__all__ = ["AsyncTransport", "Transport"]


class _AsyncBytes(_AsyncBody, httpx2.AsyncByteStream):
    pass


class _Bytes(_Body, httpx2.SyncByteStream):
    pass


class AsyncTransport(AsyncSending, httpx2.AsyncBaseTransport):
    """Sends the requests of `httpx2.AsyncClient`, on asyncio and trio."""

    _module = httpx2
    _body = _AsyncBytes


class Transport(Sending, httpx2.BaseTransport):
    """Sends the requests of `httpx2.Client`; the blocking twin of `AsyncTransport`."""

    _module = httpx2
    _body = _Bytes
