"""A network that records exchanges into a file, and answers requests from it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from .._http import lazy
from . import cassette_file
from .cassette_stream import CassetteStream
from .hiding import exchange_of, hidden, secrets_of
from .matching import default_match, key_of, origin_form
from .not_recorded import NotRecordedError, missing, used_up
from .script import RecordedRequest
from .tape import Tape, TapedStream
from .transcript import Exchange, Transcript

__all__ = ["Cassette", "CassetteMode"]

CassetteMode: TypeAlias = Literal["replay", "record", "hybrid"]
"""What a cassette does: only answer from the file, only record, or record what is missing."""

SHARE = 8
"""While requests are in flight, the file is written when 1 of this many exchanges is new."""


@dataclass(eq=False)
class _Recording:
    """An exchange, how its request is compared, and its part of the file."""

    exchange: Exchange
    request: RecordedRequest
    text: str
    used: bool = False


class Cassette(lazy.httpcore.AsyncNetworkBackend):
    """Answers from a file: `AsyncClient(url, network=Cassette("answers.json"))`.

    - `mode="replay"` never uses the network: a request without a recording raises
      NotRecordedError. FileNotFoundError if there is no file.
    - `mode="record"` sends every request, and replaces the file.
    - `mode="hybrid"` answers from the file, and sends and records what is missing there.

    A request is answered by the first recording with its method, target and body that has not
    been used; bodies of JSON are compared as values. Where recordings of several hosts fit, one
    of the request's own host is preferred. Each recording is used once; with `repeat` the last
    one that fits is used for all further requests. `match` replaces the comparison: it is given
    a request without credentials, and two requests match if it returns the same for both.

    Answers keep their heads, their bytes and the boundaries of the reads, and come without
    pauses. The file is written, as a whole, when an exchange has ended and by `save()`. A
    request that was cancelled, or met a deadline, while it waited for the server is not
    recorded. One whose answer the client did not read to the end is, as far as it was read;
    reading on in a replay raises NotRecordedError.

    Credentials are left out as by `Recorder`, and so are the texts in `redact` (of 8 characters
    or more). `network` is what stands behind it (default: real sockets). Any number of clients,
    event loops and threads may share a cassette, but no other process should write its file.
    """

    def __init__(
        self,
        path: str | Path,
        mode: CassetteMode = "replay",
        *,
        network: lazy.httpcore.AsyncNetworkBackend | None = None,
        repeat: bool = False,
        match: Callable[[RecordedRequest], object] = default_match,
        redact: Iterable[str] = (),
    ) -> None:
        if mode not in get_args(CassetteMode):
            raise ValueError(f"mode is one of {', '.join(get_args(CassetteMode))}, not {mode!r}")
        self.path: Path = Path(path)
        """The file."""
        self.mode: CassetteMode = mode
        """What it does."""
        sockets: Any = lazy.httpcore.AnyIOBackend  # its types say that it may be a stand-in
        self._network: lazy.httpcore.AsyncNetworkBackend = sockets() if network is None else network
        self._repeat = repeat
        self._match = match
        self._redact = list(redact)
        self._lock = threading.RLock()
        self._recordings: list[_Recording] = []
        self._by_key: dict[str, list[_Recording]] = {}
        if mode == "replay" or (mode == "hybrid" and self.path.exists()):
            for exchange in cassette_file.read(self.path):
                self._recordings.append(self._add(exchange))
        self._tapes: list[Tape] = []
        self._new: dict[Tape, _Recording] = {}
        self._unsaved = 0

    @property
    def transcript(self) -> Transcript:
        """What the file has, or will have after `save()`."""
        with self._lock:
            return Transcript(tuple(each.exchange for each in self._all()))

    @property
    def unused(self) -> tuple[Exchange, ...]:
        """The recordings of the file that have answered no request so far."""
        with self._lock:
            return tuple(each.exchange for each in self._recordings if not each.used)

    def save(self) -> None:
        """Write the file now, unless nothing is new. OSError if that is impossible."""
        with self._lock:
            if self._unsaved:
                cassette_file.write(self.path, [each.text for each in self._all()])
                self._unsaved = 0

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> lazy.httpcore.AsyncNetworkStream:
        """Return a connection; only `mode="record"` connects before it knows the request."""

        async def dial() -> lazy.httpcore.AsyncNetworkStream:
            return await self._network.connect_tcp(
                host, port, timeout, local_address, socket_options
            )

        return await self._connected(dial)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> lazy.httpcore.AsyncNetworkStream:
        """The same for a Unix socket."""

        async def dial() -> lazy.httpcore.AsyncNetworkStream:
            return await self._network.connect_unix_socket(path, timeout, socket_options)

        return await self._connected(dial)

    async def sleep(self, seconds: float) -> None:
        """Part of httpcore's interface."""
        await self._network.sleep(seconds)

    async def _connected(self, dial: Callable[[], Any]) -> lazy.httpcore.AsyncNetworkStream:
        if self.mode == "record":
            return self._taped(await dial())
        return CassetteStream(dial, self._taped, self._recording_of)

    def _taped(self, stream: lazy.httpcore.AsyncNetworkStream) -> TapedStream:
        return TapedStream(stream, self._tapes, self._ended)

    def _recording_of(self, sent: RecordedRequest) -> Exchange | None:
        """Return what answers a request, used from now on; None if the server must.

        Raises NotRecordedError in a replay.
        """
        request = _comparable(hidden(sent, secrets_of(sent, self._redact)))
        with self._lock:
            fitting = self._by_key.get(self._key_of(request), [])
            host = request.headers.get("host")
            fitting = [
                each for each in fitting if each.request.headers.get("host") == host
            ] or fitting
            chosen = next((each for each in fitting if not each.used), None)
            if chosen is None and fitting and self._repeat:
                chosen = fitting[-1]
            if chosen is not None:
                chosen.used = True
                return chosen.exchange
            if self.mode == "hybrid":
                return None
            if fitting:
                raise used_up(request, len(fitting), self.path)
            recorded = [(each.request, each.exchange) for each in self._recordings]
            raise missing(request, recorded, self.path)

    def _ended(self, tape: Tape) -> None:
        with self._lock:
            if tape.broken_off or tape.request.method == "CONNECT":
                self._tapes.remove(tape)
                return
            new = self._add(exchange_of(tape, bodies=True, more=self._redact))
            new.used = True
            tape.segments = []  # the recording has them
            self._new[tape] = new
            self._unsaved += 1
            total = len(self._recordings) + len(self._new)
            if len(self._new) == len(self._tapes) or self._unsaved * SHARE >= total:
                try:
                    self.save()
                except OSError as error:
                    raise NotRecordedError(f"cannot write {self.path}: {error}") from error

    def _add(self, exchange: Exchange) -> _Recording:
        """Make an exchange one that answers requests."""
        request = _comparable(_request_of(exchange))
        recording = _Recording(exchange, request, cassette_file.text_of(exchange))
        self._by_key.setdefault(self._key_of(request), []).append(recording)
        return recording

    def _key_of(self, request: RecordedRequest) -> str:
        try:
            return key_of(self._match(request))
        except Exception as error:
            raise NotRecordedError(f"`match` raised {error!r}", request=request) from error

    def _all(self) -> list[_Recording]:
        """Return the old recordings, then the new ones in the order of their requests."""
        return [*self._recordings, *(self._new[each] for each in self._tapes if each in self._new)]


def _request_of(exchange: Exchange) -> RecordedRequest:
    headers: dict[str, str] = {}
    for cased, value in exchange.headers:
        name = cased.lower()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return RecordedRequest(
        method=exchange.method,
        target=exchange.target,
        headers=headers,
        body=exchange.body or b"",
        raw_headers=tuple(
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in exchange.headers
        ),
    )


def _comparable(request: RecordedRequest) -> RecordedRequest:
    return replace(request, target=origin_form(request.target))
