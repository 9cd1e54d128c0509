"""Finds where requests and responses end, with h11. Nothing here does I/O."""

from __future__ import annotations

import dataclasses

import h11

from .._wire.endings import Ending, ending_of
from ..headers import Headers
from .script import RecordedRequest

NotHTTP = h11.RemoteProtocolError
"""The client sent something that is not a request."""


class RequestReader:
    """Bytes in, requests out. Raises NotHTTP.

    With `early` a request is complete when its head and this many bytes of its body are in,
    or all of it; the rest is then dropped.
    """

    def __init__(self, early: int | None = None) -> None:
        self._h11 = h11.Connection(h11.SERVER)
        self._early = early
        self._request: h11.Request | None = None
        self._body = bytearray()
        self.skipping: bool = False
        """True while the rest of a request that was returned early has not come."""

    def feed(self, data: bytes, *, connection: int, time: float) -> list[RecordedRequest]:
        """Take bytes from the client; return the requests they complete."""
        if not data:  # httpcore writes empty data as well, which means an end of file to h11
            return []
        self._h11.receive_data(data)
        complete: list[RecordedRequest] = []
        while True:
            event = self._h11.next_event()
            if isinstance(event, h11.Request):
                self._request = event
            elif isinstance(event, h11.Data):
                self._body += event.data
            elif isinstance(event, h11.EndOfMessage):
                complete += self._give(connection, time)
                # h11 wants an answer before it reads on, but the script answers. So each request
                # gets a new connection object, which takes over the bytes after the last one.
                rest = self._h11.trailing_data[0]
                self.__init__(self._early)  # type: ignore[misc]
                if rest:
                    self._h11.receive_data(rest)
            else:
                early = self._early
                if early is not None and self._request is not None and len(self._body) >= early:
                    complete += self._give(connection, time)
                return complete

    def _give(self, connection: int, time: float) -> list[RecordedRequest]:
        """Return the request, unless it was returned before."""
        if self.skipping:
            self._body.clear()
            return []
        self.skipping = True
        assert self._request is not None
        request = recorded(self._request, bytes(self._body))
        return [dataclasses.replace(request, connection=connection, time=time)]


def recorded(request: h11.Request, body: bytes) -> RecordedRequest:
    """Return h11's request as a plain value."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in request.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return RecordedRequest(
        method=request.method.decode("ascii"),
        target=request.target.decode("ascii"),
        headers=headers,
        body=body,
        raw_headers=tuple(request.headers.raw_items()),
    )


class ResponseEnd:
    """Finds the end of the response to one request.

    One that ends with its connection has no end of its own.
    """

    def __init__(self, method: str, target: str = "/") -> None:
        self._request = (method, target)
        self._h11 = h11.Connection(h11.CLIENT)
        self._h11.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        self._h11.send(h11.EndOfMessage())
        self._readable = True
        self._stream: Ending | None = None

    @property
    def answered(self) -> bool:
        """True if the answer of a model is all there, perhaps without the end of its body."""
        return self._stream is not None and self._stream.done

    def feed(self, data: bytes) -> bool:
        """Take bytes from the server; return True if the response is whole now."""
        if not self._readable:
            return False
        try:
            self._h11.receive_data(data)
            while True:
                event = self._h11.next_event()
                if isinstance(event, h11.EndOfMessage):
                    return True
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return False
                if isinstance(event, h11.Response):
                    fields = ((k.decode("ascii"), v.decode("latin-1")) for k, v in event.headers)
                    self._stream = ending_of(*self._request, Headers(fields))
                elif isinstance(event, h11.Data) and self._stream is not None:
                    self._stream.feed(event.data)
        except NotHTTP:
            self._readable = False
            return False
