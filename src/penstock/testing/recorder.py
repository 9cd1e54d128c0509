"""A network backend that records what passes through it, decrypted where there is TLS."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from .._http import lazy
from .._wire.credentials import cover_all, header_secrets, names_a_credential
from .cuts import head_size, payload_places
from .requests import NotHTTP, RequestReader, response_is_whole
from .transcript import Exchange, ExchangeEnd, Segment, Transcript

if TYPE_CHECKING:
    import ssl

    from .script import RecordedRequest

LEFT_OUT = "[left out]"

_IN_QUERY = re.compile(r"([?&][^=&]*(?:key|token|secret|password|sig)[^=&]*=)([^&]*)", re.I)
_SET_COOKIE = re.compile(rb"(?<=\nset-cookie:)[^\r\n]*", re.I)
_COMPRESSED = re.compile(rb"\ncontent-encoding:[ \t]*(?!identity[ \t]*\r)[^ \t\r\n]", re.I)


class Recorder(lazy.httpcore.AsyncNetworkBackend):
    """Records what a real server answers: `AsyncClient(url, network=Recorder())`.

    Afterwards `recorder.save("run.jsonl")`, or `recorder.transcript`. It stands between the
    client and `network` (default: real sockets), and changes nothing. Times are those at which
    the client read. Only HTTP/1.1 is recorded, without a proxy's CONNECT.

    Left out, unless asked for: the bodies of requests (`bodies=True`), and credentials
    (`credentials=True`). Credentials are headers and query parameters with such a name, their
    values (of 8 characters or more) wherever the server repeats them, and cookies. In an answer
    each byte is overwritten with an x, so that its length still agrees with its head. A
    compressed answer, which penstock never asks for, cannot be searched: its whole body is
    overwritten. The text of the model is kept, and may be secret too.
    """

    def __init__(
        self,
        network: lazy.httpcore.AsyncNetworkBackend | None = None,
        *,
        bodies: bool = False,
        credentials: bool = False,
    ) -> None:
        sockets: Any = lazy.httpcore.AnyIOBackend  # its types say that it may be a stand-in
        self._network: lazy.httpcore.AsyncNetworkBackend = sockets() if network is None else network
        self._bodies = bodies
        self._credentials = credentials
        self._logs: list[_Log] = []
        self._recorded = datetime.now(UTC).isoformat(timespec="seconds")

    @property
    def transcript(self) -> Transcript:
        """The recording so far; an exchange in flight ends as if the client had left."""
        return Transcript(tuple(self._exchange(log) for log in self._logs), self._recorded)

    def save(self, path: str | Path) -> None:
        """Write the transcript to a file."""
        self.transcript.save(path)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> lazy.httpcore.AsyncNetworkStream:
        """Connect through the network behind this one."""
        stream = await self._network.connect_tcp(host, port, timeout, local_address, socket_options)
        return _RecordedStream(stream, self._logs)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> lazy.httpcore.AsyncNetworkStream:
        """The same for a Unix socket."""
        stream = await self._network.connect_unix_socket(path, timeout, socket_options)
        return _RecordedStream(stream, self._logs)

    async def sleep(self, seconds: float) -> None:
        """Part of httpcore's interface."""
        await self._network.sleep(seconds)

    def _exchange(self, log: _Log) -> Exchange:
        request = log.request
        headers = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers
        ]
        target, body, segments = request.target, request.body, log.segments
        if not self._credentials:
            secrets = header_secrets(request.raw_headers)
            secrets += [value for _, value in _IN_QUERY.findall(target)]
            headers = [
                (name.decode("latin-1"), LEFT_OUT if names_a_credential(name) else value)
                for (name, _), (_, value) in zip(request.raw_headers, headers, strict=True)
            ]
            target = _IN_QUERY.sub(rf"\1{LEFT_OUT}", target)
            if erase := cover_all(secrets, lambda _: LEFT_OUT):
                target = erase(target)
                headers = [(name, erase(value)) for name, value in headers]
                body = erase(body.decode("latin-1")).encode("latin-1")
            segments = _overwritten(segments, cover_all(secrets, lambda found: "x" * len(found)))
        end: ExchangeEnd = log.end or "client closed"
        if response_is_whole(request.method, b"".join(each.data for each in log.segments)):
            end = "kept"  # what happened to the connection later belongs to other exchanges
        over = log.ended_at if end != "kept" else None
        return Exchange(
            method=request.method,
            target=target,
            headers=tuple(headers),
            body=body if self._bodies else None,
            segments=tuple(segments),
            end=end,
            ended_at=over if over is not None else segments[-1].at if segments else 0.0,
        )


class _Log:
    """The answer to one request so far."""

    def __init__(self, request: RecordedRequest) -> None:
        self.request = request
        self.segments: list[Segment] = []
        self.end: ExchangeEnd | None = None
        self.ended_at: float | None = None

    def add(self, data: bytes) -> None:
        self.segments.append(Segment(self._now(), data))

    def finish(self, end: ExchangeEnd) -> None:
        if self.end is None:
            self.end, self.ended_at = end, self._now()

    def _now(self) -> float:
        return round(anyio.current_time() - self.request.time, 6)


class _RecordedStream(lazy.httpcore.AsyncNetworkStream):
    def __init__(self, inner: lazy.httpcore.AsyncNetworkStream, logs: list[_Log]) -> None:
        self._inner = inner
        self._logs = logs
        self._own: list[_Log] = []
        self._requests: RequestReader | None = RequestReader()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            data = await self._inner.read(max_bytes, timeout)
        except lazy.httpcore.NetworkError:
            self._finish("reset")
            raise
        if not data:
            self._finish("server closed")
        elif self._own:
            self._own[-1].add(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        now = anyio.current_time()
        await self._inner.write(buffer, timeout)
        if self._requests is None:
            return
        try:
            requests = self._requests.feed(buffer, connection=0, time=now)
        except NotHTTP:  # another protocol, such as SOCKS
            self._requests = None
            return
        for request in requests:
            log = _Log(request)
            self._own.append(log)
            self._logs.append(log)

    async def aclose(self) -> None:
        self._finish("client closed")
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> lazy.httpcore.AsyncNetworkStream:
        stream = await self._inner.start_tls(ssl_context, server_hostname, timeout)
        for log in self._own:  # with a proxy, which is not the server
            self._logs.remove(log)
        return _RecordedStream(stream, self._logs)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)

    def _finish(self, end: ExchangeEnd) -> None:
        if self._own:
            self._own[-1].finish(end)


def _overwritten(segments: list[Segment], cover: Callable[[str], str] | None) -> list[Segment]:
    """Overwrite each byte of a secret with an x, also across segments and chunks."""
    data = bytearray().join(segment.data for segment in segments)
    try:
        size, places = head_size(data), payload_places(data)
    except ValueError:  # no whole head
        size, places = len(data), []
    data[:size] = _SET_COOKIE.sub(lambda found: b"x" * len(found[0]), data[:size])
    if _COMPRESSED.search(data[:size]):
        for start, end in places:
            data[start:end] = b"x" * (end - start)
    if cover is not None:
        for region in ([(0, len(data))], places):
            text = b"".join(data[start:end] for start, end in region).decode("latin-1")
            covered = cover(text).encode("latin-1")
            for start, end in region:
                data[start:end], covered = covered[: end - start], covered[end - start :]
    result: list[Segment] = []
    start = 0
    for segment in segments:
        result.append(Segment(segment.at, bytes(data[start : start + len(segment.data)])))
        start += len(segment.data)
    return result
