"""TLS over any of our network streams, by the ssl module's memory buffers.

One implementation for asyncio, uvloop and trio, also inside a proxy's TLS. Unlike
asyncio's own it distinguishes a proper end (close_notify) from a cut connection, so a
truncated body never looks complete (RFC 8446, 6.1).
"""

from __future__ import annotations

import contextlib
import math
import os
import ssl
from collections.abc import Awaitable
from functools import partial
from weakref import WeakValueDictionary

import anyio

from .alpn import HTTP11, check_protocol
from .network import (
    ClosedLocally,
    ConnectionFailed,
    Deadline,
    LazyDeadline,
    NetworkStream,
    Taken,
    Tap,
    Upload,
    without_frames,
)
from .off_loop import forks_wait

__all__ = ["TLSStream", "default_context", "shared_context", "start_tls"]

# One TLS record holds at most 16 KiB of text (RFC 8446, 5.1).
RECORD_SIZE = 16384


# The variables that name authorities in place of certifi's.
_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")

# By `_authorities`, while a client uses it.
_contexts: WeakValueDictionary[tuple[object, ...], ssl.SSLContext] = WeakValueDictionary()


def shared_context() -> ssl.SSLContext:
    """Return the `default_context` of all clients that use it now; call it in a worker thread.

    To load the authorities takes 15 to 27 ms and half a megabyte. Raises as `default_context`.
    """
    with forks_wait:
        key = _authorities()
        context = _contexts.get(key)
        if context is None:
            context = _contexts[key] = default_context()
        return context


def _authorities() -> tuple[object, ...]:
    """Return what the context depends on: authorities that are renewed are loaded anew."""
    paths = [os.environ.get(variable) for variable in _VARIABLES]
    changed = [path and os.path.exists(path) and os.stat(path).st_mtime_ns for path in paths]  # noqa: PTH110, PTH116 - no pathlib for this
    return (*paths, *changed)


def default_context() -> ssl.SSLContext:
    """Return a context that verifies and offers HTTP/1.1, for TLS 1.2 and later.

    The authorities are certifi's unless the environment names others. Raises ConnectionFailed if
    those that it names are not there.
    """
    for variable in _VARIABLES:
        path = os.environ.get(variable)
        if path and not os.path.exists(path):  # noqa: PTH110 - no pathlib for this
            raise ConnectionFailed(f"{variable} names {path!r}, which does not exist")
    if any(map(os.environ.get, _VARIABLES)):
        context = ssl.create_default_context()
    else:
        import certifi

        context = ssl.create_default_context(cafile=certifi.where())
    # Some builds of Python, such as Debian's, set no minimum of their own.
    if context.minimum_version < ssl.TLSVersion.TLSv1_2:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A server that finds no protocol offered may assume another.
    context.set_alpn_protocols([HTTP11])
    return context


class TLSStream(NetworkStream):
    """The client's side of a TLS connection over `inner`, which it owns."""

    __slots__ = (
        "_closed",
        "_failure",
        "_incoming",
        "_inner",
        "_object",
        "_outgoing",
        "_over",
        "_pid",
        "_records",
        "_unread",
    )

    def __init__(self, inner: NetworkStream, context: ssl.SSLContext, hostname: str) -> None:
        self._inner = inner
        self._pid = os.getpid()
        self._closed = False
        # Nothing more can be read: the peer has ended, or `_failure` says what went wrong.
        self._over = False
        # A plain OSError where OpenSSL reports only what the last system call had left behind.
        self._failure: OSError | None = None
        self._unread = b""
        # Records of an upload that the network has not taken: nothing may come between them.
        self._records = Upload(b"")
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=False, server_hostname=hostname
        )

    async def handshake(self, deadline: Deadline) -> None:
        """Agree on keys and verify the server; raise ConnectionFailed with the reason."""
        while True:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush(deadline)
                await self._fill(deadline)
            except ssl.SSLCertVerificationError as error:
                # Send the alert to the server; if that fails, the refusal matters more.
                with contextlib.suppress(ConnectionFailed):
                    await self._flush(deadline)  # noqa: ASYNC120 - a cancellation may replace the refusal
                raise ConnectionFailed(
                    f"the server's certificate was refused: {error.verify_message}",
                    permanent=True,
                ) from error
            except OSError as error:
                raise ConnectionFailed(f"the TLS handshake failed: {_text(error)}") from error
            else:
                await self._flush(deadline)
                check_protocol(self._object.selected_alpn_protocol())
                return

    async def receive(self, deadline: Deadline) -> bytes:
        while True:
            data = self._decrypt()
            if data:
                return data
            if self._over:
                return self._end()
            # Reading may need an answer, as to a key update. Behind an upload it must wait.
            if self._outgoing.pending and not self._records:
                await self._flush(deadline)
            await self._fill(deadline)

    def _end(self) -> bytes:
        if self._failure is None:
            return b""
        if isinstance(self._failure, ssl.SSLEOFError):
            raise ConnectionFailed(
                "the connection was cut: the server ended it without TLS close_notify"
            ) from self._failure
        raise ConnectionFailed(
            f"the TLS connection failed: {_text(self._failure)}"
        ) from self._failure

    def receive_nowait(self) -> bytes:
        # No more where there is something: a consumer may stall now.
        if not self._unread:
            self._incoming.write(self._inner.receive_nowait())
        return self._decrypt()

    def wait(self, deadline: LazyDeadline, tap: Tap) -> Awaitable[object] | None:
        if self._unread or self._over or self._outgoing.pending:
            return None
        return self._inner.wait(deadline, partial(self._take, deadline, tap))

    def _take(self, deadline: Deadline, tap: Tap, data: bytes, now: float) -> Taken:
        self._incoming.write(data)
        text = self._decrypt()
        ends = self._over or self._outgoing.pending
        if text and not ends:
            taken = tap(text, now)
            if taken is not Taken.NOTHING:
                return taken
        # `receive` finds it here.
        self._unread = text
        deadline.end(now)
        # Part of a record, or a message of TLS itself, changes nothing.
        return Taken.ENDS if text or ends else Taken.GOES_ON

    def stop_waiting(self, deadline: Deadline) -> None:
        self._inner.stop_waiting(deadline)

    def _decrypt(self) -> bytes:
        # Every whole record, so that a burst of events costs one loop iteration.
        pieces: list[bytes] = []
        if self._unread:
            pieces.append(self._unread)
            self._unread = b""
        incoming, tls = self._incoming, self._object
        try:
            while not self._over and (incoming.pending or tls.pending() or incoming.eof):
                piece = tls.read(RECORD_SIZE)
                if piece:
                    pieces.append(piece)
                else:
                    self._over = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._over = True
        except OSError as error:
            self._over = True
            self._failure = without_frames(error)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _fill(self, deadline: Deadline) -> None:
        data = await self._inner.receive(deadline)
        if data:
            self._put(data)
        else:
            self._incoming.write_eof()

    def _put(self, data: bytes) -> None:
        """Give OpenSSL what has arrived, in parts: its buffer never becomes smaller again."""
        while len(data) > RECORD_SIZE:
            self._incoming.write(data[:RECORD_SIZE])
            data = data[RECORD_SIZE:]
            self._unread = self._decrypt()
        self._incoming.write(data)

    async def _flush(self, deadline: Deadline) -> None:
        try:
            await self._inner.send(self._outgoing.read(), deadline)
        except BaseException:
            # Part of a record may be out, and nothing can follow it.
            self.close()
            raise

    async def send(self, data: bytes, deadline: Deadline) -> None:
        self._encrypt(data)
        await self._flush(deadline)

    def _encrypt(self, data: bytes | memoryview) -> None:
        try:
            self._object.write(data)
        except OSError as error:
            raise ConnectionFailed(f"the TLS connection failed: {_text(error)}") from error

    async def upload(self, upload: Upload, deadline: Deadline) -> bool:
        while True:
            if not self._records:
                piece = upload.peek()
                self._encrypt(piece)
                upload.advance(len(piece))
                self._records = Upload(self._outgoing.read())
            written = await self._inner.upload(self._records, deadline)
            if written and not upload:
                return True
            # A session ticket may have arrived, which is not an answer.
            came = self._inner.receive_nowait()
            if came:
                self._incoming.write(came)
                self._unread = self._decrypt()
            if self._unread or self._over or not (came or written):
                return False

    def take_in(self) -> None:
        self._inner.take_in()

    def is_clean(self) -> bool:
        # Session tickets and key updates may arrive while idle. They are not a response;
        # text or an end is.
        if self._pid != os.getpid() or self._has_text():
            return False
        if self._inner.is_clean():
            return True
        # It may be a ticket that the event loop has not read yet.
        self._inner.take_in()
        return not self._has_text() and self._inner.is_clean()

    def _has_text(self) -> bool:
        """Read what has arrived; True if it is more than messages of TLS itself."""
        self._unread = self.receive_nowait()
        return bool(self._unread or self._over or self._records)

    def close(self) -> None:
        self._closed = True
        self._inner.close()

    async def aclose(self, grace: float | None) -> None:
        if not (self._closed or self._records) and self._pid == os.getpid():
            # Announce the end, without waiting for the peer's own close_notify.
            with contextlib.suppress(OSError):
                self._object.unwrap()
            with (
                contextlib.suppress(ConnectionFailed, ClosedLocally),
                anyio.move_on_after(grace, shield=True),
            ):
                await self._flush(_Unlimited())
            self._closed = True
        await self._inner.aclose(grace)


class _Unlimited:
    """No deadline of its own: the scope around the call bounds it."""

    def begin(self, now: float) -> float:
        return math.inf

    def end(self, now: float) -> None:
        pass

    def check(self, now: float) -> None:
        pass

    def byte_arrived(self) -> None:
        pass

    def error(self) -> Exception:
        return ConnectionFailed("the connection could not be closed in time")


def _text(error: OSError) -> str:
    return getattr(error, "reason", None) or str(error)


async def start_tls(
    inner: NetworkStream, context: ssl.SSLContext, hostname: str, deadline: Deadline
) -> TLSStream:
    """Put TLS over `inner`; on any failure or cancellation `inner` is closed."""
    try:
        stream = TLSStream(inner, context, hostname)
        await stream.handshake(deadline)
    except ClosedLocally:
        raise ConnectionFailed("the connection was closed during the TLS handshake") from None
    except BaseException:
        inner.close()
        raise
    return stream
