"""A network stream of the caller's own backend (`AsyncClient(network=...)`)."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import anyio.lowlevel

from ..errors import PenstockError, ReadTimeout
from . import lazy
from .alpn import check_protocol
from .descriptors import shutdown_fd
from .network import (
    READ_SIZE,
    ClosedLocally,
    ConnectionFailed,
    Deadline,
    NetworkStream,
    Upload,
    without_frames,
)

__all__ = ["ForeignStream"]

T = TypeVar("T")

# Larger requests are watched for an early answer while they are written, which needs a task.
SMALL_UPLOAD = 65536


class ForeignStream(NetworkStream):
    """Any httpcore network stream. Deadlines are scopes around its calls, whatever it is."""

    # A backend's stream has no other way to close.
    closes_at_once = False

    __slots__ = ("_ahead", "_closed", "_cut", "_gone", "_inner", "_pid", "_scope", "_token")

    def __init__(self, inner: lazy.httpcore.AsyncNetworkStream) -> None:
        self._inner = inner
        self._pid = os.getpid()
        # What was read while an upload went on: bytes, or the failure of that read.
        self._ahead: bytes | Exception | None = None
        # An upload was cut within a write, so nothing more can be written.
        self._cut = False
        self._scope: anyio.CancelScope | None = None
        self._closed = False
        self._gone = False
        self._token = anyio.lowlevel.current_token()

    async def receive(self, deadline: Deadline) -> bytes:
        # Before anything is read, because it would be lost.
        deadline.check(anyio.current_time())
        if self._ahead is not None:
            return await self._call(deadline, self._take_ahead)
        return await self._call(deadline, self._inner.read, READ_SIZE)

    async def _take_ahead(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        ahead, self._ahead = self._ahead, None
        if isinstance(ahead, Exception):
            raise ahead
        assert ahead is not None
        return ahead

    def receive_nowait(self) -> bytes:
        return b""

    async def send(self, data: bytes, deadline: Deadline) -> None:
        await self._call(deadline, self._inner.write, data)

    async def upload(self, upload: Upload, deadline: Deadline) -> bool:
        if self._cut:
            raise ConnectionFailed("the upload was cut when the server answered early")
        if len(upload) <= SMALL_UPLOAD:
            data = bytes(upload.peek())
            upload.advance(len(data))
            await self._call(deadline, self._inner.write, data)
        while upload and self._ahead is None:
            await self._call(deadline, self._write_and_read, upload)
            deadline.byte_arrived()
        return not (upload or self._cut)

    async def _write_and_read(self, upload: Upload) -> None:
        """Write one piece; what arrives meanwhile cuts the write and is kept."""
        piece = bytes(upload.peek())
        # First, because a write that is cut may have written any part of it.
        upload.advance(len(piece))
        failures: list[Exception] = []

        async def read() -> None:
            try:
                self._ahead = await self._inner.read(READ_SIZE)
            except Exception as error:  # noqa: BLE001 - raised by `receive`
                self._ahead = without_frames(error)
            group.cancel_scope.cancel()

        self._cut = True
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            try:
                await self._inner.write(piece)
            except Exception as error:  # noqa: BLE001 - raised below, in no exception group
                failures.append(error)
            else:
                self._cut = False
            group.cancel_scope.cancel()
        if failures and self._ahead is None:
            raise failures[0]

    async def start_tls(self, context: ssl.SSLContext, hostname: str, deadline: Deadline) -> None:
        """Continue over TLS, with the backend's own handshake."""
        self._inner = await self._call(deadline, self._inner.start_tls, context, hostname)
        with contextlib.suppress(AttributeError):  # a backend that shows no TLS object
            check_protocol(self._inner.get_extra_info("ssl_object").selected_alpn_protocol())

    async def _call(
        self, deadline: Deadline, method: Callable[..., Awaitable[T]], *args: object
    ) -> T:
        if self._closed:
            raise ClosedLocally
        self._scope = anyio.CancelScope(deadline=deadline.begin(anyio.current_time()))
        try:
            with self._scope:
                return await method(*args)
        except PenstockError:
            # The backend's own, as of a cassette without the answer.
            raise
        except lazy.httpcore.TimeoutException as error:
            raise ReadTimeout("the network backend reported a read timeout") from error
        except Exception as error:
            if self._closed:
                raise ClosedLocally from None
            text = str(error) or type(error).__name__
            raise ConnectionFailed(
                f"the connection failed: {text}",
                # httpcore's own backends raise a ConnectError from the error of ssl.
                permanent=isinstance(error.__cause__ or error, ssl.SSLCertVerificationError),
            ) from error
        finally:
            self._scope = None
            deadline.end(anyio.current_time())
        # The scope caught its own cancellation: closed from elsewhere, or too late.
        if self._closed:
            raise ClosedLocally
        raise deadline.error()

    def is_clean(self) -> bool:
        if self._closed or self._cut or self._ahead is not None or self._pid != os.getpid():
            return False
        if anyio.lowlevel.current_token() != self._token:
            return False
        try:
            return not self._inner.get_extra_info("is_readable")
        except Exception:  # noqa: BLE001 - anyio's raises one on uvloop when the socket is gone
            return False

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._pid != os.getpid():
            return
        if self._scope is not None:
            self._scope.cancel()
        with contextlib.suppress(Exception):
            sock = self._inner.get_extra_info("socket")
            if sock is not None:
                shutdown_fd(sock.fileno())

    async def aclose(self, grace: float | None) -> None:
        self.close()
        if self._gone or self._pid != os.getpid():
            return
        self._gone = True
        with anyio.move_on_after(grace, shield=True), contextlib.suppress(Exception):
            await self._inner.aclose()
