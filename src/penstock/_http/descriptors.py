"""Operations on a socket's file descriptor, whichever event loop owns it."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct

__all__ = [
    "fd_is_readable",
    "options_here",
    "read_fd",
    "reset_on_close",
    "set_options",
    "shutdown_fd",
]

# Seconds of silence after which the kernel probes whether the peer is still there, as
# OpenAI's own client sets them: streams may be silent for minutes behind a NAT.
KEEPALIVE_IDLE = 60
KEEPALIVE_INTERVAL = 60
KEEPALIVE_PROBES = 5

# Bytes that may wait in the kernel to be sent. Its own bound is megabytes: an upload would look
# finished, and then silent, long before it is.
MAX_UNSENT = 131072


def fd_is_readable(fd: int) -> bool:
    """Return True if bytes, an end or an error wait; a closed descriptor counts as one."""
    if fd < 0:
        return True
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([fd], [], [], 0)[0])


def read_fd(fd: int, size: int) -> bytes:
    """Return up to `size` bytes that wait in the socket, b"" if there are none."""
    try:
        with socket.socket(fileno=os.dup(fd)) as duplicate:
            return duplicate.recv(size, socket.MSG_DONTWAIT)
    except OSError:
        return b""


def shutdown_fd(fd: int) -> None:
    """End the connection in both directions; the descriptor stays open."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)


def reset_on_close(fd: int) -> None:
    """Drop what is unsent when the descriptor is closed, and reset the connection.

    Or else the kernel goes on trying to send it, and a peer that does not read never learns of
    the end.
    """
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as duplicate:
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def set_options(fd: int) -> None:
    """Let the kernel notice a peer that vanished, and bound what waits in it, where it can."""
    # uvloop's own socket object makes one for each option, and asks for its address. The base
    # class is quicker, and `testing.leaks` takes none of it for a new socket.
    sock = socket.SocketType(socket.AF_INET, socket.SOCK_STREAM, 0, fd)
    try:
        with contextlib.suppress(OSError):
            for level, option, value in _OPTIONS:
                sock.setsockopt(level, option, value)
    finally:
        sock.detach()


def options_here() -> list[tuple[int, int, int]]:
    """Return level, number and value of the options that this platform has."""
    by_name = {
        "TCP_KEEPIDLE": KEEPALIVE_IDLE,
        "TCP_KEEPINTVL": KEEPALIVE_INTERVAL,
        "TCP_KEEPCNT": KEEPALIVE_PROBES,
        "TCP_NOTSENT_LOWAT": MAX_UNSENT,
    }
    return [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        *(
            (socket.IPPROTO_TCP, getattr(socket, name), value)
            for name, value in by_name.items()
            if hasattr(socket, name)
        ),
    ]


_OPTIONS = options_here()
