"""Streams whose tokens are taken where they arrive, in virtual time on every event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from unittest import mock

import anyio

from penstock._call.reader import Reader
from penstock._http.foreign_stream import ForeignStream
from penstock._http.network import Deadline, Taken, Tap

__all__ = ["TappedStream", "reading"]


class TappedStream(ForeignStream):
    """Has bytes taken as the streams of asyncio do, but of a `MemoryNetwork`."""

    __slots__ = ("_found",)

    async def receive(self, deadline: Deadline) -> bytes:
        found = getattr(self, "_found", None)
        if isinstance(found, Exception):
            raise found
        return await super().receive(deadline)

    def wait(self, deadline: Deadline, tap: Tap) -> Awaitable[object] | None:
        found = getattr(self, "_found", None)
        return self._give(deadline, tap) if found is None else None

    async def _give(self, deadline: Deadline, tap: Tap) -> None:
        taken = Taken.GOES_ON
        while taken is Taken.GOES_ON:
            try:
                data = await super().receive(deadline)
            except Exception as error:  # noqa: BLE001 - raised by `receive`
                self._found: bytes | Exception | None = error
                return
            taken = tap(data, anyio.current_time()) if data else Taken.NOTHING
            if taken is Taken.NOTHING:
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
