"""A network stream of the caller's own backend (`AsyncClient(network=...)`)."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import anyio.lowlevel

from ..errors import ReadTimeout
from . import lazy
from .descriptors import shutdown_fd
from .network import READ_SIZE, ClosedLocally, ConnectionFailed, Deadline, NetworkStream

__all__ = ["ForeignStream"]

T = TypeVar("T")


class ForeignStream(NetworkStream):
    """Any httpcore network stream. Deadlines are scopes around its calls, whatever it is."""

    __slots__ = ("_closed", "_gone", "_inner", "_scope", "_token")

    def __init__(self, inner: lazy.httpcore.AsyncNetworkStream) -> None:
        self._inner = inner
        self._scope: anyio.CancelScope | None = None
        self._closed = False
        self._gone = False
        self._token = anyio.lowlevel.current_token()

    async def receive(self, deadline: Deadline) -> bytes:
        # Before anything is read, since it would be lost.
        deadline.check(anyio.current_time())
        return await self._call(deadline, self._inner.read, READ_SIZE)

    def receive_nowait(self) -> bytes:
        return b""

    async def send(self, data: bytes, deadline: Deadline) -> None:
        await self._call(deadline, self._inner.write, data)

    async def start_tls(self, context: ssl.SSLContext, hostname: str, deadline: Deadline) -> None:
        """Go on over TLS, with the backend's own handshake."""
        self._inner = await self._call(deadline, self._inner.start_tls, context, hostname)

    async def _call(
        self, deadline: Deadline, method: Callable[..., Awaitable[T]], *args: object
    ) -> T:
        if self._closed:
            raise ClosedLocally
        self._scope = anyio.CancelScope(deadline=deadline.begin(anyio.current_time()))
        try:
            with self._scope:
                return await method(*args)
        except ReadTimeout:
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
        # The scope swallowed its own cancellation: closed from elsewhere, or too late.
        if self._closed:
            raise ClosedLocally
        raise deadline.error()

    def is_clean(self) -> bool:
        if self._closed or anyio.lowlevel.current_token() != self._token:
            return False
        try:
            return not self._inner.get_extra_info("is_readable")
        except Exception:  # noqa: BLE001 - as anyio's does on uvloop, of a socket that is gone
            return False

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._scope is not None:
            self._scope.cancel()
        with contextlib.suppress(Exception):
            sock = self._inner.get_extra_info("socket")
            if sock is not None:
                shutdown_fd(sock.fileno())

    async def aclose(self, grace: float | None) -> None:
        self.close()
        if self._gone:
            return
        self._gone = True
        with anyio.move_on_after(grace, shield=True), contextlib.suppress(Exception):
            await self._inner.aclose()
