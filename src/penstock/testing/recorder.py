"""A network backend that records what passes through it, decrypted where there is TLS."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .._http import lazy
from .hiding import LEFT_OUT, exchange_of
from .tape import Tape, TapedStream
from .transcript import Transcript

__all__ = ["LEFT_OUT", "Recorder"]


class Recorder(lazy.httpcore.AsyncNetworkBackend):
    """Records what a real server answers: `AsyncClient(url, network=Recorder())`.

    Afterwards `recorder.save("run.jsonl")`, or `recorder.transcript`. It stands between the
    client and `network` (default: real sockets), and changes nothing. Times are those at which
    the client read. Only HTTP/1.1 is recorded, without a proxy's CONNECT.

    Left out, unless asked for: the bodies of requests (`bodies=True`), and credentials
    (`credentials=True`). Credentials are headers and query parameters with such a name, their
    values (of 8 characters or more) wherever the server repeats them, and cookies. In an answer
    each byte is overwritten with an x, so that its length still agrees with its head. A
    compressed answer, which penstock never asks for, is overwritten as a whole if a credential is
    in it, or if it is neither gzip nor deflate. The text of the model is kept, and may be secret
    too.
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
        self._tapes: list[Tape] = []
        self._recorded = datetime.now(UTC).isoformat(timespec="seconds")

    @property
    def transcript(self) -> Transcript:
        """The recording so far; an exchange in flight ends as if the client had left."""
        exchanges = (
            exchange_of(tape, bodies=self._bodies, credentials=self._credentials)
            for tape in self._tapes
        )
        return Transcript(tuple(exchanges), self._recorded)

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
        return TapedStream(stream, self._tapes)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> lazy.httpcore.AsyncNetworkStream:
        """The same for a Unix socket."""
        stream = await self._network.connect_unix_socket(path, timeout, socket_options)
        return TapedStream(stream, self._tapes)

    async def sleep(self, seconds: float) -> None:
        """Part of httpcore's interface."""
        await self._network.sleep(seconds)
