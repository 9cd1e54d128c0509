"""Streams whose tokens are taken where they arrive, in virtual time on every event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from unittest import mock

import anyio

from penstock._call.reader import Reader
from penstock._http.foreign_stream import ForeignStream
from penstock._http.network import Deadline, Take, Tap

__all__ = ["TappedStream", "reading"]


class TappedStream(ForeignStream):
    """Has bytes taken as the streams of asyncio do, but of a `MemoryNetwork`."""

    __slots__ = ("_found", "_tap")

    def listen(self, tap: Tap | None) -> None:
        self._tap = tap

    async def receive(self, deadline: Deadline) -> bytes:
        found = getattr(self, "_found", None)
        if isinstance(found, Exception):
            raise found
        while True:
            data = await super().receive(deadline)
            tap = getattr(self, "_tap", None)
            taken = data if tap is None else tap(data, anyio.current_time())
            if isinstance(taken, bytes):
                return taken

    def wait(self, deadline: Deadline, take: Take) -> Awaitable[object] | None:
        found = getattr(self, "_found", None)
        return self._give(deadline, take) if found is None else None

    async def _give(self, deadline: Deadline, take: Take) -> None:
        try:
            data = await super().receive(deadline)
        except Exception as error:  # noqa: BLE001 - raised by `receive`
            self._found: bytes | Exception | None = error
            return
        if not (data and take(data, anyio.current_time())):
            self._found = data or None

    def receive_nowait(self) -> bytes:
        found = getattr(self, "_found", None)
        if not isinstance(found, bytes):
            return b""
        self._found = None
        return found


@contextmanager
def reading(*, tapped: bool) -> Iterator[None]:
    """Have tokens taken where they arrive, or all bytes read the general way."""
    if tapped:
        with mock.patch("penstock._http.foreign_stream.ForeignStream", TappedStream):
            yield
    else:
        with mock.patch.object(Reader, "at_rest", return_value=False):
            yield
